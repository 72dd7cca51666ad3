"""Which processes belong to a component, and how they are ended.

A process is a member when it leads or is in the session of a script that still exists, when its parent is one, when
it was seen to outlive its script, when the component's cgroup lists it, or when its environment carries the component's
token.  The last finds what has left session and parents behind.  A pid alone proves nothing: every process is known by
its pid *and* the time it started, and both are compared before a signal is sent, so that no stranger gets one.

Nothing here waits for a child: processes are reaped by whoever started them, each by its own pid.

Where the system lacks the means to look (descriptors, memory), nobody counts as gone: whoever ends processes looks
again until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Find", "ProcessId", "Row", "boot", "descendants", "end", "left_behind", "members", "process_id", "table"]

log = logging.getLogger(__name__)

TERM_S = 5.0
KILL_S = 5.0
_PROC = Path("/proc")
_FIRST_LOOK_S, _LOOK_S = 0.005, 0.1
_SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for certain: its pid and its start, in clock ticks since the machine booted."""

    pid: int
    started: int


Find = Callable[[Collection[int]], set[ProcessId]]
"""Finds what is to be ended, given sessions that are known to be part of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A process as the kernel tells of it."""

    id: ProcessId
    parent: int
    session: int
    zombie: bool


def boot() -> str:
    """What tells this run of the machine from any other."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def process_id(pid: int) -> ProcessId | None:
    """The process that has this pid now, if there is one, and it can be looked at."""
    with contextlib.suppress(OSError):
        row = _row(pid)
        return row.id if row else None
    return None


def table() -> dict[int, Row]:
    """Every process there is, by pid; raises ``OSError`` where they cannot be looked at now."""
    pids = (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 names, not paths
    return {row.id.pid: row for row in map(_row, pids) if row}


def left_behind(session: int) -> set[ProcessId]:
    """The living members of a session whose leader has just ended; asked later, the number may be another's."""
    return {row.id for row in table().values() if row.session == session and not row.zombie}


def members(
    known: Iterable[ProcessId], token: str = "", listed: Collection[int] = (), sessions: Collection[int] = ()
) -> set[ProcessId]:
    """The living processes of ``known``, of a token, and of what a cgroup ``listed``; never the agent itself.

    ``sessions`` are ones that were the component's a moment ago, though their leaders may be gone by now.
    """
    rows = table()
    rows.pop(os.getpid(), None)
    pids = {process.pid for process in known if process.pid in rows and rows[process.pid].id == process}
    theirs = pids | set(sessions)
    pids |= {pid for pid, row in rows.items() if row.session in theirs or pid in listed}
    if token:
        pids |= {pid for pid in rows.keys() - pids if _carries(pid, f"SVCUID={token}".encode())}
    return {rows[pid].id for pid in _with_children(rows, pids) if not rows[pid].zombie}


def descendants(ancestor: ProcessId) -> set[ProcessId]:
    """Everything that a process started, and what that started."""
    rows = table()
    return {rows[pid].id for pid in _with_children(rows, {ancestor.pid}) - {ancestor.pid}}


async def end(find: Find, *, term_s: float = TERM_S, kill_s: float = KILL_S) -> set[ProcessId]:
    """Ask what ``find`` finds to end, then make it; the result is what is still there.

    ``find`` is given the sessions of what it found before, so that a child which was born while its parent died is
    found by the next look.
    """
    loop = asyncio.get_running_loop()
    left: set[ProcessId] = set()
    sessions: set[int] = set()
    for number, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, kill_s)):
        signalled: set[ProcessId] = set()
        deadline = loop.time() + patience_s
        look_s = _FIRST_LOOK_S
        while left := await _found(find, sessions):
            signalled |= {process for process in left - signalled if _signal(process, number)}
            if loop.time() >= deadline:
                break
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LOOK_S)
        if not left:
            break
    return left


async def _found(find: Find, sessions: set[int]) -> set[ProcessId]:
    """What ``find`` finds, as soon as it can look; its sessions join ``sessions``."""
    short = False
    while True:
        try:
            left = await asyncio.to_thread(find, sessions)
            sessions |= _own_sessions(left)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            if not short:
                log.warning("processes cannot be looked at now, and are looked at again: %s", error.strerror)
            short = True
            await asyncio.sleep(_LOOK_S)
        else:
            return left


def _own_sessions(left: set[ProcessId]) -> set[int]:
    """The sessions that these processes lead, or whose leader is gone: no session of anybody else's."""
    sessions = {row.session for row in (_row(process.pid) for process in left) if row}
    leaders = {session: _row(session) for session in sessions}
    return {session for session, leader in leaders.items() if leader is None or leader.id in left}


def _signal(process: ProcessId, number: signal.Signals) -> bool:
    """Whether it need not be tried again; what cannot be looked at, or is gone, is seen at the next look."""
    if process_id(process.pid) != process:
        return False
    try:
        os.kill(process.pid, number)
        if number is signal.SIGTERM:  # one that was stopped would not see it
            os.kill(process.pid, signal.SIGCONT)
    except ProcessLookupError:
        return False
    except PermissionError:
        log.warning("process %d of a component cannot be sent %s: it is another user's", process.pid, number.name)
    return True


def _with_children(rows: Mapping[int, Row], pids: set[int]) -> set[int]:
    grown = set(pids)
    while True:
        children = {pid for pid, row in rows.items() if row.parent in grown} - grown
        if not children:
            return grown
        grown |= children


def _carries(pid: int, variable: bytes) -> bool:
    return variable in (_read(pid, "environ") or b"").split(b"\0")


def _row(pid: int) -> Row | None:
    content = _read(pid, "stat")
    if content is None:
        return None
    text = content.decode(errors="replace")
    # The name may hold anything, so what follows is counted from its last bracket.
    facts = text[text.rindex(")") + 2 :].split()
    return Row(ProcessId(pid, int(facts[19])), int(facts[1]), int(facts[3]), facts[0] in {"Z", "X"})


def _read(pid: int, name: str) -> bytes | None:
    """What the kernel tells of a process; None for one that is gone or another's."""
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError as error:
        if error.errno in _SHORTAGES:
            raise
        return None
