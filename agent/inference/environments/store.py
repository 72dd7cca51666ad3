"""The folder in which environments lie, one beside the other.

::

    <root>/litert-0f3a…           an environment, named by a digest of what it was made of
    <root>/litert-0f3a…/.proved   what is in it; written last, so what lacks it does not count
    <root>/greengrass_ml_tflite_venv → litert-0f3a…   for programs that look for Greengrass's name
    <root>/.own                   digests of the requests that the agent's own Python serves: nothing could be installed
    <root>/.lock                  held by who builds, and by the children that write for it

Whoever is killed leaves an environment without its mark; the next one that holds the lock clears it away.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

import msgspec

from agent.files import SHARED, SHARED_FOLDER, make_folder, open_way, remove_tree, write_atomically
from agent.inference.environments.choose import Candidate, WheelSource
from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.spec import Environment, RuntimeSpec

__all__ = ["LINKS", "EnvironmentStore", "Record", "folders_of", "listing", "request", "roots_below"]

LINKS: Mapping[str, str] = MappingProxyType(
    {"litert": "greengrass_ml_tflite_venv", "dlr": "greengrass_ml_dlr_venv"}
)  # fmt: skip
"""The names that Greengrass's programs look for."""

_MARK = ".proved"
_OWN = ".own"
_LOCK = ".lock"
_CACHE = ".cache"
_NAME = re.compile(rf"(?:{'|'.join(FAMILIES)})-[0-9a-f]{{16}}")
_POLL_S = 0.1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment's mark says."""

    family: str
    requests: tuple[str, ...]
    """Digests of the requests that it fulfils."""
    packages: dict[str, str]
    wheels: dict[str, str]
    """Per package, the SHA-256 of its wheel."""
    description: str


class EnvironmentStore:
    """The environments under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, family: str, candidate: Candidate, wheels: Mapping[str, int]) -> Path:
        """Where a candidate's environment belongs."""
        interpreter = candidate.interpreter
        known = sorted(wheels.items()) if candidate.source is WheelSource.WHEELHOUSE else None
        made_of = [interpreter.path, interpreter.release, sorted(candidate.requirements), candidate.source.name, known]
        return self.root / f"{family}-{_digest(made_of)[:16]}"

    def read(self, folder: Path) -> Record | None:
        """An environment's mark; None for one that does not count, or has lost its Python."""
        if not os.access(folder / "bin" / "python", os.X_OK):
            return None
        try:
            return msgspec.json.decode((folder / _MARK).read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def ready(self) -> Iterator[tuple[Path, Record]]:
        """The environments that count."""
        for folder in self._folders():
            record = self.read(folder)
            if record is not None:
                yield folder, record

    def environment(self, folder: Path, record: Record) -> Environment:
        """A marked environment as others see it."""
        python = str(folder / "bin" / "python")
        return Environment(record.family, python, MappingProxyType(record.packages), record.description)

    def mark(self, folder: Path, record: Record) -> None:
        """Let an environment count from now on; what it holds must be on the disk already."""
        write_atomically(folder / _MARK, msgspec.json.encode(record), SHARED)

    def note_own(self, digest: str) -> None:
        """Note that the agent's own Python serves a request; only under the lock."""
        write_atomically(self.root / _OWN, json.dumps(sorted({*self._own(), digest})).encode(), SHARED)

    def is_own(self, digest: str) -> bool:
        """Whether the agent's own Python served a request when it was last tried."""
        return digest in self._own()

    def _own(self) -> list[str]:
        try:
            return msgspec.json.decode((self.root / _OWN).read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            return []

    def link(self, folder: Path, family: str) -> str:
        """Give an environment Greengrass's name; the result is what kept that from being done, or empty."""
        name = LINKS.get(family)
        if name is None:
            return ""
        place = self.root / name
        if place.exists() and not place.is_symlink():
            return f"{place} is there and no link: it stays as it is"
        fresh = self.root / f".{name}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.name)
        fresh.replace(place)
        return ""

    def clear(self) -> None:
        """Remove what does not count, and what downloads left; only under the lock."""
        for folder in self._folders():
            if self.read(folder) is None:
                remove_tree(folder)
        remove_tree(self.root / _CACHE)

    def prune(self, kept: Iterable[Path]) -> None:
        """Remove the environments that are not among ``kept``; does nothing while somebody builds."""
        wanted = set(kept)
        if not self.root.is_dir():
            return
        with self._opened() as lock:
            if not _taken(lock):
                return
            for folder in self._folders():
                if folder not in wanted:
                    (folder / _MARK).unlink(missing_ok=True)
                    remove_tree(folder)
        for place in (self.root / name for name in LINKS.values()):
            if place.is_symlink() and not place.exists():
                place.unlink()

    @asynccontextmanager
    async def locked(self, report: Callable[[str], None]) -> AsyncIterator[int]:
        """Wait until nobody else builds here; the value is the lock's descriptor.  Raises ``OSError``."""
        make_folder(self.root, SHARED_FOLDER)
        open_way(self.root.parent)
        with self._opened() as lock:
            if not _taken(lock):
                report(f"another build is under way in {self.root}: waiting for its end")
                while not _taken(lock):  # noqa: ASYNC110 another process lets it go
                    await asyncio.sleep(_POLL_S)
            yield lock

    @contextmanager
    def _opened(self) -> Iterator[int]:
        lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock
        finally:
            os.close(lock)

    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if _NAME.fullmatch(path.name) and not path.is_symlink())


def request(spec: RuntimeSpec) -> str:
    """A digest of a request: two with the same digest are served by the same environment."""
    wheels = None if spec.wheelhouse is None else sorted(listing(spec.wheelhouse).items())
    return _digest([spec.family, sorted(spec.packages), wheels, spec.index, spec.interpreter])


def listing(wheelhouse: Path | None) -> dict[str, int]:
    """The wheels in a wheelhouse, at any depth, and their sizes."""
    return {path.name: path.stat().st_size for path in _wheels(wheelhouse)}


def folders_of(wheelhouse: Path | None) -> list[Path]:
    """The folders in a wheelhouse that hold wheels."""
    return sorted({path.parent for path in _wheels(wheelhouse)})


def roots_below(work: Path) -> set[Path]:
    """The roots in the folders of components, whoever built there and when."""
    return {lock.parent for lock in work.glob(f"*/*/{_LOCK}")}


def _wheels(wheelhouse: Path | None) -> list[Path]:
    return [path for path in wheelhouse.rglob("*.whl") if path.is_file()] if wheelhouse is not None else []


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
