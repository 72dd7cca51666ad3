"""Wheels made for a test, and those that ``scripts/setup dev`` downloaded.

``lend`` makes a wheel that is a package of this interpreter by another way: it holds a ``.pth`` file which names a
folder of links to the package's own folders.  pip installs it in a moment, and what is then imported is the real thing.
"""

from __future__ import annotations

import shutil
import sysconfig
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

DOWNLOADED = Path(__file__).parents[3] / ".venv" / "wheelhouse"
SITE = Path(sysconfig.get_path("platlib"))


def wheel(folder: Path, name: str, version: str, files: dict[str, str], requires: Iterable[str] = ()) -> Path:
    """A pure wheel with these files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    requirements = "".join(f"Requires-Dist: {each}\n" for each in requires)
    inside = files | {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    inside[f"{stem}.dist-info/RECORD"] = "".join(f"{path},,\n" for path in inside)
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in inside.items():
            archive.writestr(place, text)
    return path


def lend(folder: Path, name: str, links: Path, patterns: Iterable[str]) -> Path:
    """A wheel of this interpreter's own package, whose folders are those that the patterns match."""
    links.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for found in SITE.glob(pattern):
            place = links / found.name
            if not place.exists():
                place.symlink_to(found)
    return wheel(folder, name, metadata.version(name), {f"{name.replace('-', '_')}_lent.pth": f"{links}\n"})


def opencv_house(base: Path) -> Path:
    """A wheelhouse for the family ``opencv`` that installs in a moment."""
    house = base / "house"
    lend(house, "numpy", base / "links", ("numpy", "numpy.libs"))
    lend(house, "opencv-python-headless", base / "links", ("cv2", "opencv_python_headless.libs"))
    return house


def downloaded(house: Path, *patterns: str) -> Path:
    """Copies of downloaded wheels in a wheelhouse; skips the test where one of them was not to be had."""
    house.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        found = sorted(DOWNLOADED.glob(pattern))
        if not found:
            pytest.skip(f"no {pattern} in .venv/wheelhouse: 'scripts/setup dev' downloads it, where there is one")
        for path in found:
            shutil.copy(path, house)
    return house
