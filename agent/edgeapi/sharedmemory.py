"""Segments of memory that clients share: what a handle says is held against the segment itself, never trusted.

System V segments are attached and copied: one that is attached keeps its size.  POSIX segments are files, read and
written as such: a client that shortens one in between gives a short read, where a mapping would end the process.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Final, NoReturn

from agent.errors import InvalidInputError

__all__ = ["SegmentError", "check_posix", "read_posix", "read_system_v", "write_posix"]

_FOLDER: Final = Path("/dev/shm")  # noqa: S108 what shm_open stands for on Linux
_TABLE: Final = Path("/proc/sysvipc/shm")
_READ_ONLY: Final = 0o10000
"""SHM_RDONLY."""
_MOST_ID: Final = 2**31 - 1
_FAILED: Final = ctypes.c_void_p(-1).value
_NOT_READ_ONLY: Final = 0o333
"""Modes with which a segment can be written to or executed, by anybody."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmdt.argtypes = (ctypes.c_void_p,)


class SegmentError(InvalidInputError):
    """A handle that names no segment, or more than there is of it."""

    default_code = "segment-wrong"


def read_system_v(identity: int, offset: int, size: int, *, writable: bool = True) -> bytes:
    """``size`` bytes of the segment with the id ``identity``; raises ``SegmentError``.

    ``writable``: whether one is taken that anybody can write to or execute.
    """
    if not 0 <= identity <= _MOST_ID:
        raise SegmentError(f"there is no segment {identity}")
    address = _libc.shmat(identity, None, _READ_ONLY)
    if address is None or address == _FAILED:
        reason = os.strerror(ctypes.get_errno())
        raise SegmentError(
            f"the segment {identity} cannot be read: {reason}",
            hint="have it belong to the agent's user, or run as that",
        )
    try:
        mode, length = _facts(identity)
        if not writable and mode & _NOT_READ_ONLY:
            raise SegmentError(f"the segment {identity} is not read-only", hint="give it the mode 0400")
        _check(offset, size, length, f"segment {identity}")
        return ctypes.string_at(address + offset, size)
    finally:
        _libc.shmdt(address)


def _facts(identity: int) -> tuple[int, int]:
    """Mode and bytes of a segment, as the kernel lists it (proc(5)): key, id, mode in octal digits, size and more."""
    try:
        lines = _TABLE.read_text().splitlines()[1:]
    except OSError as error:
        raise SegmentError(f"the segment {identity} cannot be looked at: {error.strerror}") from error
    for line in lines:
        fields = line.split()
        if int(fields[1]) == identity:
            return int(fields[2], 8), int(fields[3])
    raise SegmentError(f"there is no segment {identity}")


def read_posix(name: str, offset: int, size: int) -> bytes:
    """``size`` bytes of the segment ``name``; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_RDONLY)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise SegmentError(f"the segment {name!r} was shortened while it was read")
    return data


def check_posix(name: str, offset: int, size: int) -> None:
    """See that a segment has room for ``size`` bytes; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_WRONLY)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
    finally:
        os.close(descriptor)


def write_posix(name: str, offset: int, size: int, data: bytes) -> None:
    """Write to a segment, in which a client gives ``size`` bytes room; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_WRONLY)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
        if len(data) > size:
            raise SegmentError(f"the segment {name!r} has {size} bytes for {len(data)}")
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def _opened(name: str, flags: int) -> int:
    plain = name.removeprefix("/")
    if not plain or plain in {".", ".."} or "/" in plain or "\0" in plain:
        raise SegmentError(f"{name!r} names no segment", hint="one name, as shm_open takes it")
    try:
        descriptor = os.open(_FOLDER / plain, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        _refuse(name, error)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SegmentError(f"{name!r} is no segment")
    return descriptor


def _refuse(name: str, error: OSError) -> NoReturn:
    raise SegmentError(f"the segment {name!r} cannot be opened: {error.strerror}") from error


def _check(offset: int, size: int, length: int, what: str) -> None:
    if offset + size > length:
        raise SegmentError(f"the {what} has {length} bytes, and {offset + size} are asked for")
