"""What survives the agent's own death: which processes are whose, so that nothing runs twice.

An agent that is killed leaves its components running.  Each component has a file with its token (written before the
first script starts) and the leaders of its scripts; the next start of the agent ends whatever still matches.  A file
from before a reboot matches nothing.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from agent.files import make_file
from agent.greengrass.components import process_tree
from agent.greengrass.components.process_tree import ProcessId

__all__ = ["Record", "end_survivors"]

log = logging.getLogger(__name__)

_SUFFIX = ".processes.json"


class _Content(msgspec.Struct, frozen=True):
    boot: str
    token: str
    leaders: list[ProcessId] = []


class Record:
    """The file of one component; it exists while the component may have processes."""

    def __init__(self, folder: Path, name: str, token: str) -> None:
        self._path = folder / f"{name}{_SUFFIX}"
        self._token = token
        self._boot = process_tree.boot()
        self.leaders: set[ProcessId] = set()

    def open(self) -> None:
        """Say that scripts may run from now on."""
        if not self._path.exists():
            self._write()

    def add(self, leader: ProcessId) -> None:
        """A script started."""
        self.leaders.add(leader)
        self._write()

    def clear(self) -> None:
        """Every process is gone."""
        self.leaders.clear()
        _remove(self._path)

    def _write(self) -> None:
        # No fsync: what a power cut takes from this file, it takes from the processes too.
        content = _Content(self._boot, self._token, sorted(self.leaders, key=lambda process: process.pid))
        temporary = self._path.with_name(f".{self._path.name}")
        try:
            make_file(temporary)
            temporary.write_bytes(msgspec.json.encode(content))
            os.replace(temporary, self._path)  # noqa: PTH105 as in files
        except OSError as error:
            # A disk that takes nothing must not keep a component from running.
            log.warning("%s cannot be written (%s): a kill of the agent leaves its processes", self._path.name, error)


async def end_survivors(folder: Path) -> list[str]:
    """End what an earlier run of the agent left running; the result names the components that were."""
    names = []
    for path in _files(folder):
        name = path.name.removesuffix(_SUFFIX)
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_Content)
        except (msgspec.DecodeError, OSError) as error:
            log.warning("%s says nothing about earlier processes: %s", path.name, error)
            _remove(path)
            continue
        if content.boot == process_tree.boot() and await _end(name, content):
            names.append(name)
        _remove(path)
    return names


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # It names nobody who is still there.
        log.warning("%s cannot be removed: %s", path.name, error)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


async def _end(name: str, content: _Content) -> bool:
    if not process_tree.members(content.leaders, content.token):
        return False
    log.warning("component %s: an earlier agent left it running; ending it", name)
    left = await process_tree.end(
        lambda sessions: process_tree.members(content.leaders, content.token, sessions=sessions)
    )
    if left:
        log.error("component %s: process(es) %s would not end", name, ", ".join(str(process.pid) for process in left))
    return True
