"""Segments of memory that clients share: what a handle says is held against the segment itself, never trusted.

System V segments are attached and copied: one that is attached keeps its size.  POSIX segments are files, read and
written as such: a client that shortens one in between gives a short read, where a mapping would end the process.

The agent may have rights that a client lacks, and who is at the other end of a socket is not known.  So where others
than the agent's own user may connect, a segment has to be of one of them, or open to them (``Sharers``).
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from agent.errors import InvalidInputError

__all__ = ["ANYBODY", "SegmentError", "Sharers", "check_posix", "read_posix", "read_system_v", "write_posix"]

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


@dataclass(frozen=True, slots=True)
class Sharers:
    """Whose segments are taken: those of a group's members, everybody's, or any that the agent's user can open."""

    group: int | None = None
    members: frozenset[int] = frozenset()
    everybody: bool = False

    @classmethod
    def of(cls, group: str, *, everybody: bool) -> Sharers:
        """Those who may connect to such a socket; a group that there is not has no members.

        >>> Sharers.of("", everybody=False) == ANYBODY
        True
        """
        try:
            found = grp.getgrnam(group) if group else None
        except KeyError:
            found = None
        if found is None:
            return cls(everybody=everybody)
        members = {
            user.pw_uid for user in pwd.getpwall() if user.pw_gid == found.gr_gid or user.pw_name in found.gr_mem
        }
        return cls(found.gr_gid, frozenset(members), everybody)

    def may(self, uid: int, gid: int, mode: int, wanted: int) -> bool:
        """Whether one of them has or can open a segment, to read (4) or to write (2)."""
        if self.group is None and not self.everybody:
            return True
        theirs = uid in self.members or (self.everybody and uid != os.geteuid())
        return theirs or bool(mode & wanted) or (gid == self.group and bool(mode >> 3 & wanted))


ANYBODY: Final = Sharers()
"""For a socket of the agent's own user: the kernel says what that user may."""
_READ, _WRITE = 4, 2


def read_system_v(identity: int, offset: int, size: int, *, writable: bool = True, sharers: Sharers = ANYBODY) -> bytes:
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
        mode, length, uid, gid = _facts(identity)
        if not sharers.may(uid, gid, mode, _READ):
            raise _others(f"the segment {identity}")
        if not writable and mode & _NOT_READ_ONLY:
            raise SegmentError(f"the segment {identity} is not read-only", hint="give it the mode 0400")
        _check(offset, size, length, f"segment {identity}")
        return ctypes.string_at(address + offset, size)
    finally:
        _libc.shmdt(address)


def _facts(identity: int) -> tuple[int, int, int, int]:
    """Mode, bytes, user and group of a segment, as the kernel lists it (proc(5))."""
    try:
        lines = _TABLE.read_text().splitlines()[1:]
    except OSError as error:
        raise SegmentError(f"the segment {identity} cannot be looked at: {error.strerror}") from error
    for line in lines:
        fields = line.split()
        if int(fields[1]) == identity:
            return int(fields[2], 8), int(fields[3]), int(fields[7]), int(fields[8])
    raise SegmentError(f"there is no segment {identity}")


def read_posix(name: str, offset: int, size: int, sharers: Sharers = ANYBODY) -> bytes:
    """``size`` bytes of the segment ``name``; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_RDONLY, sharers)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
        data = os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
    if len(data) != size:
        raise SegmentError(f"the segment {name!r} was shortened while it was read")
    return data


def check_posix(name: str, offset: int, size: int, sharers: Sharers = ANYBODY) -> None:
    """See that a segment has room for ``size`` bytes; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_WRONLY, sharers)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
    finally:
        os.close(descriptor)


def write_posix(name: str, offset: int, size: int, data: bytes, sharers: Sharers = ANYBODY) -> None:
    """Write to a segment, in which a client gives ``size`` bytes room; raises ``SegmentError``."""
    descriptor = _opened(name, os.O_WRONLY, sharers)
    try:
        _check(offset, size, os.fstat(descriptor).st_size, f"segment {name!r}")
        if len(data) > size:
            raise SegmentError(f"the segment {name!r} has {size} bytes for {len(data)}")
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def _opened(name: str, flags: int, sharers: Sharers) -> int:
    plain = name.removeprefix("/")
    if not plain or plain in {".", ".."} or "/" in plain or "\0" in plain:
        raise SegmentError(f"{name!r} names no segment", hint="one name, as shm_open takes it")
    try:
        descriptor = os.open(_FOLDER / plain, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        _refuse(name, error)
    facts = os.fstat(descriptor)
    wanted = _WRITE if flags & os.O_WRONLY else _READ
    if stat.S_ISREG(facts.st_mode) and sharers.may(facts.st_uid, facts.st_gid, facts.st_mode, wanted):
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(facts.st_mode):
        raise _others(f"the segment {name!r}")
    raise SegmentError(f"{name!r} is no segment")


def _others(what: str) -> SegmentError:
    return SegmentError(
        f"{what} is of nobody who may connect", hint="have its owner in the socket's group, or open it to that group"
    )


def _refuse(name: str, error: OSError) -> NoReturn:
    raise SegmentError(f"the segment {name!r} cannot be opened: {error.strerror}") from error


def _check(offset: int, size: int, length: int, what: str) -> None:
    if offset + size > length:
        raise SegmentError(f"the {what} has {length} bytes, and {offset + size} are asked for")
