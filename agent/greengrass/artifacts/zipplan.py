"""Whether a zip archive may be unpacked, and what comes of it: the decision, without touching a disk.

Everything is decided on the archive's directory before the first byte is written.  What it declares and
what the data is are compared while unpacking.
"""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agent.greengrass.artifacts.errors import ArtifactError

__all__ = ["ZipEntry", "ZipLimits", "ZipPlan", "plan", "refused"]

_GIB = 1024**3
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """What unpacking one archive may cost."""

    max_bytes: int = 4 * _GIB
    max_entries: int = 20_000
    max_directory_bytes: int = 8 * 1024 * 1024
    max_ratio: int = 200
    """Unpacked to packed, of each entry and of the whole; deflate reaches 1032 on zeros."""
    free_ratio_bytes: int = 1024 * 1024
    """Up to this size the ratio does not matter."""
    max_name_bytes: int = 255
    max_path_bytes: int = 1024


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file or folder to make, below the folder that is unpacked to."""

    info: zipfile.ZipInfo
    path: PurePosixPath
    is_folder: bool


@dataclass(frozen=True, slots=True)
class ZipPlan:
    """What to make, in order, and the bytes that it takes."""

    entries: tuple[ZipEntry, ...]
    total_bytes: int


def plan(infos: Sequence[zipfile.ZipInfo], archive_bytes: int, limits: ZipLimits) -> ZipPlan:
    """What unpacking makes.

    Raises:
        ArtifactError: IO_UNZIP_ERROR for an archive that could escape, clash, explode or deceive.
    """
    if len(infos) > limits.max_entries:
        raise refused(f"it has {len(infos)} entries, the limit is {limits.max_entries}")
    for info in infos:
        for broken, sentence in _RULES:
            if broken(info, limits):
                raise refused(sentence, info)
    _refuse_overlaps(infos, archive_bytes)
    total = sum(info.file_size for info in infos)
    if total > limits.max_bytes:
        raise refused(f"it unpacks to {total} bytes, the limit is {limits.max_bytes}")
    if _explodes(total, archive_bytes, limits):
        raise refused(f"it unpacks to more than {limits.max_ratio} times its size")
    return ZipPlan(tuple(_entries(infos)), total)


def refused(why: str, info: zipfile.ZipInfo | None = None) -> ArtifactError:
    """The error of an archive that is not unpacked."""
    entry = f"its entry {info.orig_filename[:80]!r} " if info else ""
    return ArtifactError(
        f"the archive is not unpacked: {entry}{why}",
        hint="make the archive anew: plain files, relative names, stored or deflated",
        code="IO_UNZIP_ERROR",
    )


def _explodes(size: int, packed: int, limits: ZipLimits) -> bool:
    return size > limits.free_ratio_bytes and size > limits.max_ratio * packed


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")


def _is_special(info: zipfile.ZipInfo) -> bool:
    """Whether the Unix mode says what is no plain file, or no folder under a folder's name."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind not in {0, stat.S_IFDIR if _is_folder(info) else stat.S_IFREG}


def _is_too_long(info: zipfile.ZipInfo, limits: ZipLimits) -> bool:
    path = info.orig_filename.encode("utf-8", "surrogatepass")
    longest = max(len(part) for part in path.split(b"/"))
    return len(path) > limits.max_path_bytes or longest > limits.max_name_bytes


def _is_no_text(info: zipfile.ZipInfo) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in info.orig_filename)


_Rule = tuple[Callable[[zipfile.ZipInfo, ZipLimits], bool], str]

_RULES: tuple[_Rule, ...] = (
    (lambda info, _: bool(_CONTROL.search(info.orig_filename)), "has a control character in its name"),
    (lambda info, _: _is_no_text(info), "has a name that is no text"),
    (lambda info, _: "\\" in info.orig_filename, "has a backslash in its name"),
    (lambda info, _: info.orig_filename.startswith("/"), "has an absolute name"),
    (lambda info, _: bool(_DRIVE.match(info.orig_filename)), "names a drive"),
    (lambda info, _: ".." in info.orig_filename.split("/"), "leads out of the folder"),
    (_is_too_long, "has too long a name"),
    (lambda info, _: not _is_folder(info) and not _parts(info), "has no name"),
    (lambda info, _: _is_special(info), "is neither a plain file nor a folder"),
    (lambda info, _: bool(info.flag_bits & _ENCRYPTED), "is encrypted"),
    (
        lambda info, _: info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED},
        "is packed by a method other than deflate",
    ),
    (lambda info, _: _is_folder(info) and info.file_size > 0, "is a folder that holds data"),
    (
        lambda info, _: info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size,
        "is stored in another size than its own",
    ),
    (lambda info, limits: _explodes(info.file_size, info.compress_size, limits), "unpacks to far more than it is"),
)
"""What an entry must not be, and the end of the sentence that says so."""


def _parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in info.orig_filename.split("/") if part not in {"", "."})


def _refuse_overlaps(infos: Iterable[zipfile.ZipInfo], archive_bytes: int) -> None:
    """No two entries may share bytes: a small archive could be made to hold the same bomb many times."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise refused("shares bytes with another", info)
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size
        if end > archive_bytes:
            raise refused("ends after the archive", info)


def _entries(infos: Iterable[zipfile.ZipInfo]) -> Iterator[ZipEntry]:
    """The entries, each name once: names that differ in case or in Unicode form are one name to some disks."""
    spelling: dict[tuple[str, ...], tuple[str, ...]] = {}
    files: set[tuple[str, ...]] = set()
    for info in infos:
        parts = _parts(info)
        key = tuple(unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()) for part in parts)
        if key in spelling and not _is_folder(info):
            raise refused("has a name that is taken", info)
        for depth in range(1, len(key) + 1):
            if key[:depth] in files or spelling.setdefault(key[:depth], parts[:depth]) != parts[:depth]:
                raise refused("has a name that clashes with another", info)
        if not _is_folder(info):
            files.add(key)
        if parts:
            yield ZipEntry(info, PurePosixPath(*parts), _is_folder(info))
