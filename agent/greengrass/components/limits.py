"""Limits on memory and processors: by cgroup v2 where the agent's own cgroup is its to divide, else by rlimit.

A cgroup with processes cannot hand controllers on, so the agent moves itself into a leaf and makes one more leaf per
component beside it.  It does that only where every process of its cgroup is its own (a systemd unit with
``Delegate=yes``, a container), never in a login session it shares with others.

A process is bound after it was started and before its shell begins with the script (``process``).

Without cgroups, memory is bounded by the size of each process's address space (``RLIMIT_AS``) and processors are not
bounded; ``note`` says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from agent.greengrass.components import process_tree
from agent.greengrass.components.spec import Limits

__all__ = ["Cgroups", "Enforcer", "Rlimits", "claim"]

log = logging.getLogger(__name__)

_PERIOD_US = 100_000
_KIB = 1024
_CONTROLLERS = ("cpu", "memory")


class Enforcer(Protocol):
    """Holds components to their limits."""

    def attach(self, name: str, pid: int, limits: Limits) -> None:
        """A process of the component started."""

    def update(self, name: str, pids: Collection[int], limits: Limits) -> None:
        """The limits of a component that runs changed."""

    def pids(self, name: str) -> Collection[int]:
        """The component's processes, as far as the enforcer knows them."""

    def release(self, name: str) -> None:
        """The component has no processes any more."""

    def note(self, limits: Limits) -> str:
        """What of these limits is not kept here, for the status; empty when all are."""


class Rlimits:
    """Limits per process; the soft ones, so that they can be raised again while the component runs."""

    def attach(self, name: str, pid: int, limits: Limits) -> None:
        """Bound the process and all it will start."""
        if limits.memory_kb is not None:
            self.update(name, (pid,), limits)

    def update(self, name: str, pids: Collection[int], limits: Limits) -> None:
        """Bound the processes anew."""
        for pid in pids:
            try:
                _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
                soft = hard if limits.memory_kb is None else limits.memory_kb * _KIB
                resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))
            except ProcessLookupError:
                continue
            except (OSError, ValueError) as error:
                log.warning("component %s: the memory of process %d cannot be limited: %s", name, pid, error)

    def pids(self, name: str) -> Collection[int]:
        """None are known."""
        del name
        return ()

    def release(self, name: str) -> None:
        """Nothing was kept."""

    def note(self, limits: Limits) -> str:
        """What rlimits cannot do."""
        notes = ["memory is limited per process, by address space"] if limits.memory_kb is not None else []
        if limits.cpus is not None:
            notes.append("cpus is not limited")
        return f"{'; '.join(notes)}: the agent has no cgroup v2 of its own" if notes else ""


class Cgroups:
    """Limits per component, in leaves of ``base``."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def attach(self, name: str, pid: int, limits: Limits) -> None:
        """Put the process into the component's cgroup."""
        try:
            self.leaf(name).mkdir(exist_ok=True)
            self._write(name, limits)
            (self.leaf(name) / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            log.warning("component %s is not limited: %s", name, error)

    def update(self, name: str, pids: Collection[int], limits: Limits) -> None:
        """Write the limits anew; the kernel applies them at once."""
        if pids:
            try:
                self._write(name, limits)
            except OSError as error:
                log.warning("component %s keeps its former limits: %s", name, error)

    def pids(self, name: str) -> Collection[int]:
        """The processes in the component's cgroup."""
        with contextlib.suppress(OSError):
            return {int(pid) for pid in (self.leaf(name) / "cgroup.procs").read_text().split()}
        return ()

    def release(self, name: str) -> None:
        """Remove the component's cgroup."""
        with contextlib.suppress(FileNotFoundError):
            try:
                self.leaf(name).rmdir()
            except OSError as error:
                log.debug("cgroup of %s stays: %s", name, error)

    def note(self, limits: Limits) -> str:
        """Everything is kept."""
        del limits
        return ""

    def leaf(self, name: str) -> Path:
        """The folder of the component's cgroup."""
        return self._base / f"component.{name}"

    def _write(self, name: str, limits: Limits) -> None:
        memory = "max" if limits.memory_kb is None else str(limits.memory_kb * _KIB)
        quota = "max" if limits.cpus is None else str(round(limits.cpus * _PERIOD_US))
        (self.leaf(name) / "memory.max").write_text(memory)
        (self.leaf(name) / "cpu.max").write_text(f"{quota} {_PERIOD_US}")


def claim(base: Path | None = None) -> Enforcer:
    """Cgroups when the agent may divide its own (``base``, looked up when not given), else rlimits."""
    base = base or _own()
    if base is None:
        return Rlimits()
    try:
        if not set(_CONTROLLERS) <= set((base / "cgroup.controllers").read_text().split()):
            return Rlimits()
        pids = [int(pid) for pid in (base / "cgroup.procs").read_text().split()]
        if not _all_ours(pids):
            return Rlimits()
        (base / "agent").mkdir(exist_ok=True)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (base / "agent" / "cgroup.procs").write_text(str(pid))
        (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
    except OSError as error:
        log.debug("no cgroups of our own: %s", error)
        return Rlimits()
    return Cgroups(base)


def _all_ours(pids: Collection[int]) -> bool:
    myself = process_tree.process_id(os.getpid())
    assert myself is not None  # noqa: S101 the process that asks exists
    ours = {process.pid for process in process_tree.descendants(myself)} | {myself.pid}
    return set(pids) <= ours


def _own() -> Path | None:
    """The folder of the agent's own cgroup, where there is a cgroup v2."""
    try:
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        mounts = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
        mount = next(left.split()[4] for left, right in mounts if right.startswith("cgroup2 "))
    except (OSError, StopIteration):
        return None
    return Path(mount) / own.lstrip("/")
