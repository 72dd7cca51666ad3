"""What stands in a component version's folders: each file that came, its digest, and how it can be had again.

An inventory is written when files are placed and kept where only the agent reads it.  ``check`` compares the files with
it.  To read all of them before every start would cost seconds on a large component, so a file whose facts (inode, size,
times) are those of the last comparison counts as unchanged: the time of the last change of a file cannot be set back by
its owner.  A *thorough* check reads everything, because facts say nothing of what a program writes through memory that
it shares with a file.

What is beside the files that came (a virtual environment, caches) is a component's own, and is not looked at.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from agent.files import DamagedFileError, read_checked, write_checked
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.request import ArtifactRequest

__all__ = ["Inventory", "Seen", "differences"]

_FRESH_NS = 2_000_000_000
"""A file that changed so lately may change again under the same time: clocks of file systems tick."""

Seen: TypeAlias = dict[Path, tuple[int, ...]]
"""The facts of files when they were last found to be what they should."""


class _Item(msgspec.Struct, frozen=True):
    uri: str
    file: str
    digest: str
    mode: int
    unpack_to: str | None = None

    def request(self, inventory: Path) -> ArtifactRequest:
        into = Path(self.unpack_to) if self.unpack_to else None
        return ArtifactRequest(self.uri, Path(self.file), Digest(self.digest), self.mode, into, inventory)


class Inventory(msgspec.Struct, frozen=True):
    """The files of a component version; paths are absolute."""

    artifacts: tuple[_Item, ...] = ()
    files: dict[str, str] = {}

    @classmethod
    def of(
        cls, placed: Mapping[ArtifactRequest, Digest], unpacked: Mapping[ArtifactRequest, Mapping[str, Digest]]
    ) -> Self:
        """What was placed, and what was unpacked of it."""
        items, files = [], {}
        for item, digest in placed.items():
            folder = item.unpack_to
            items.append(_Item(item.uri, str(item.file), digest.hex, item.mode, str(folder) if folder else None))
            files[str(item.file)] = digest.hex
            if folder is not None:
                files |= {str(folder / name): one.hex for name, one in unpacked[item].items()}
        return cls(tuple(items), files)

    @classmethod
    def standing(cls, requests: Iterable[ArtifactRequest]) -> Self:
        """What stands where it was requested, from now on the agent's own.  Raises ``OSError``."""
        placed, unpacked = {}, {}
        for item in requests:
            placed[item] = _taken(item.file)
            if item.unpack_to is not None:
                files = sorted(path for path in item.unpack_to.rglob("*") if path.is_file() and not path.is_symlink())
                unpacked[item] = {str(path.relative_to(item.unpack_to)): _taken(path) for path in files}
        return cls.of(placed, unpacked)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The inventory in a file; None where there is none that can be read whole."""
        try:
            return msgspec.json.decode(read_checked(path), type=cls)
        except (OSError, DamagedFileError, msgspec.DecodeError):
            return None

    def write(self, path: Path) -> None:
        """Keep it; raises ``OSError``."""
        write_checked(path, msgspec.json.encode(self))

    def requests(self, inventory: Path) -> tuple[ArtifactRequest, ...]:
        """How everything can be had again."""
        return tuple(item.request(inventory) for item in self.artifacts)


def differences(inventory: Inventory, seen: Seen, *, thorough: bool = False) -> tuple[str, ...]:
    """What is not as it came, in a few words each; ``seen`` is brought up to date."""
    return tuple(
        f"{Path(name).name} {how}"
        for name, digest in inventory.files.items()
        if (how := _difference(Path(name), digest, seen, thorough=thorough))
    )


def _difference(path: Path, digest: str, seen: Seen, *, thorough: bool) -> str:
    try:
        facts = _facts(path)
        if not thorough and seen.get(path) == facts:
            return ""
        if Digest.of(path).hex != digest:
            seen.pop(path, None)
            return "was changed"
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if time.time_ns() - facts[-1] > _FRESH_NS:
        seen[path] = facts
    return ""


def _taken(path: Path) -> Digest:
    os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
    return Digest.of(path)


def _facts(path: Path) -> tuple[int, ...]:
    one = path.lstat()
    if not stat.S_ISREG(one.st_mode):
        raise FileNotFoundError(path)
    return one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns
