"""Components held still, and let go on: by a cgroup freezer where there is one, else by SIGSTOP.

=============================  ======================================================================================
freezer                        where
=============================  ======================================================================================
``UnifiedFreezer`` (v2)        where the agent divides its own cgroup (``limits``)
``LegacyFreezer`` (v1)         where the agent may make a cgroup in the freezer's hierarchy
``SignalFreezer``              everywhere else; a process can be woken by whoever may send it a signal
=============================  ======================================================================================

What is frozen cannot handle a signal, so whoever ends a component's processes lets them go on first.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from agent.greengrass.components import process_tree
from agent.greengrass.components.limits import Cgroups, Enforcer
from agent.greengrass.components.process_tree import Find

__all__ = ["Freezer", "LegacyFreezer", "SignalFreezer", "UnifiedFreezer", "choose", "let_go"]

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 5.0
_LOOK_S: Final = 0.005


class Freezer(Protocol):
    """Holds a component's processes, which ``find`` finds.

    Each call blocks its thread for up to five seconds, and is no call for the loop's; it raises ``OSError``.
    """

    def freeze(self, name: str, find: Find) -> None:
        """Have every process of the component stand still; none does if it raises."""

    def thaw(self, name: str, find: Find) -> None:
        """Have them go on."""


class SignalFreezer:
    """By SIGSTOP and SIGCONT."""

    def freeze(self, name: str, find: Find) -> None:
        """Stop what is there until nothing new is."""
        stopped = set[process_tree.ProcessId]()
        deadline = time.monotonic() + _PATIENCE_S
        while new := find(()) - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new
            if time.monotonic() > deadline:
                self.thaw(name, find)
                raise TimeoutError(f"its processes make others faster than they can be stopped: {len(stopped)}")

    def thaw(self, name: str, find: Find) -> None:
        """Continue them."""
        del name
        _signal(find(()), signal.SIGCONT)


class UnifiedFreezer:
    """By ``cgroup.freeze`` of the component's own cgroup."""

    def __init__(self, leaf: Callable[[str], Path]) -> None:
        self._leaf = leaf

    def freeze(self, name: str, find: Find) -> None:
        """Freeze the cgroup, and wait until it is."""
        try:
            self._write(name, frozen=True)
        except OSError:
            with suppress(OSError):
                self.thaw(name, find)
            raise

    def thaw(self, name: str, find: Find) -> None:
        """Thaw it."""
        del find
        with suppress(FileNotFoundError):
            self._write(name, frozen=False)

    def _write(self, name: str, *, frozen: bool) -> None:
        leaf = self._leaf(name)
        (leaf / "cgroup.freeze").write_text(str(int(frozen)))
        _wait(lambda: f"frozen {int(frozen)}" in (leaf / "cgroup.events").read_text().splitlines())


class LegacyFreezer:
    """By a cgroup of its own below ``base``, in the freezer's hierarchy of cgroup v1; ``owner`` tells agents apart."""

    def __init__(self, base: Path, owner: str) -> None:
        self._base = base
        self._prefix = f"verge-{hashlib.sha256(owner.encode()).hexdigest()[:12]}-"

    def freeze(self, name: str, find: Find) -> None:
        """Put every process into the cgroup, and freeze that until nothing is left outside."""
        leaf = self._leaf(name)
        leaf.mkdir(exist_ok=True)
        state = leaf / "freezer.state"

        def frozen() -> bool:
            inside = {int(pid) for pid in (leaf / "cgroup.procs").read_text().split()}
            outside = [process for process in find(()) if process.pid not in inside]
            for process in outside:
                with suppress(ProcessLookupError):
                    (leaf / "cgroup.procs").write_text(str(process.pid))
            state.write_text("FROZEN")
            return not outside and state.read_text().strip() == "FROZEN"

        try:
            _wait(frozen)
        except OSError:
            self._let_go(leaf)
            raise

    def thaw(self, name: str, find: Find) -> None:
        """Thaw the cgroup, and give its processes back to the one above."""
        del find
        if self._leaf(name).exists():
            self._let_go(self._leaf(name))

    def clear(self) -> None:
        """Thaw what is left of this owner's."""
        for leaf in self._base.glob(f"{self._prefix}*"):
            with suppress(OSError):
                self._let_go(leaf)

    def _leaf(self, name: str) -> Path:
        return self._base / f"{self._prefix}{name}"

    def _let_go(self, leaf: Path) -> None:
        (leaf / "freezer.state").write_text("THAWED")
        _wait(lambda: (leaf / "freezer.state").read_text().strip() == "THAWED")

        def empty() -> bool:
            pids = (leaf / "cgroup.procs").read_text().split()
            for pid in pids:
                with suppress(ProcessLookupError):
                    (self._base / "cgroup.procs").write_text(pid)
            return not pids

        _wait(empty)
        leaf.rmdir()


def choose(enforcer: Enforcer, owner: str) -> Freezer:
    """The best freezer there is here; ``owner`` is the agent's folder."""
    if isinstance(enforcer, Cgroups):
        return UnifiedFreezer(enforcer.leaf)
    return _legacy(owner) or SignalFreezer()


def let_go(owner: str) -> None:
    """Let go on what an earlier agent of this folder left frozen: no signal ends what is, in a v1 hierarchy."""
    if legacy := _legacy(owner):
        legacy.clear()


def _legacy(owner: str) -> LegacyFreezer | None:
    base = _legacy_base()
    usable = base is not None and os.geteuid() == 0 and os.access(base, os.W_OK)
    return LegacyFreezer(base, owner) if base is not None and usable else None


def _legacy_base() -> Path | None:
    """The folder of the agent's own cgroup in the freezer's hierarchy, where there is one."""
    try:
        fields = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
        own = next(path for _, controllers, path in fields if "freezer" in controllers.split(","))
        mounts = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
        mount = next(
            left.split()[4]
            for left, right in mounts
            if right.startswith("cgroup ") and "freezer" in right.split()[-1].split(",")
        )
    except (OSError, StopIteration):
        return None
    folder = Path(mount) / own.lstrip("/")
    return folder if folder.is_dir() else None


def _signal(processes: set[process_tree.ProcessId], number: signal.Signals) -> None:
    for process in processes:
        if process_tree.process_id(process.pid) == process:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the kernel did not do it within {_PATIENCE_S:g} s")
        time.sleep(_LOOK_S)
