"""The runner of recipes: a component's steps are scripts for the shell.

*Privilege.*  A root agent runs scripts as the component's user or the default one, never silently as root; a step
that requires privilege runs as root.  An agent that is not root runs everything as itself, and says so where more was
asked for: there is no user to switch to, and most scripts that ask for root work without it.  The files of a
component with such a step stay root's, and all that came is compared with its digest before each of its steps: no
other component may say what root runs.

*The end of a step* is the end of its shell.  What the shell left running stays part of the component and is ended with
it, except when the step ran out of time: then it goes at once.

A script is ``sh -c`` in a session of its own, its output two streams, its end a number.  The shell is started behind a
gate: it waits for a line on its input before it turns into the script, so that limits and records are in place before
anything of the component runs; an agent that dies in between leaves a shell that ends.  The pipes are made here and not
by asyncio, whose ``wait`` may wait for the pipes as well: a daemon that a script left behind keeps them open for as
long as it lives, and the script is over all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from agent.errors import VergeError
from agent.files import make_folder
from agent.greengrass.components import environment, process_tree
from agent.greengrass.components.freezer import Freezer, SignalFreezer
from agent.greengrass.components.limits import Enforcer
from agent.greengrass.components.logs import ComponentLog, pump
from agent.greengrass.components.process_tree import ProcessId, process_id
from agent.greengrass.components.record import Record
from agent.greengrass.components.runner import NOTHING, OK, StepOutcome, failed
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.recipes.lifecycle import Condition, LifecycleStep, Skip, StepName
from agent.users import ROOT, Identity, RunAs, give, look_up, reclaim

__all__ = ["Guard", "Script", "ScriptContext", "ScriptRunner", "unguarded"]

log = logging.getLogger(__name__)

_LAST_WORDS_S = 1.0
_GATE = 'read -r _ && exec "$0" -c "$1"'


class Guard(Protocol):
    """Sees that a component's files are what came for it."""

    async def __call__(self, spec: ComponentSpec, thorough: bool, /) -> Sequence[str]:
        """What was not, and is now; raises ``VergeError`` where that could not be put right."""


async def unguarded(spec: ComponentSpec, thorough: bool, /) -> Sequence[str]:
    """A ``Guard`` where nothing is known of files."""
    del spec, thorough
    return ()


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What the scripts of all components share."""

    env: Mapping[str, str]
    default_user: RunAs | None
    enforcer: Enforcer
    tasks: asyncio.TaskGroup
    guard: Guard
    freezer: Freezer = field(default_factory=SignalFreezer)
    shell: str = "/bin/sh"


class ScriptRunner:
    """Performs the steps of one component's recipe."""

    def __init__(
        self, spec: ComponentSpec, token: str, surroundings: ScriptContext, log_: ComponentLog, record: Record
    ) -> None:
        self._spec = spec
        self._token = token
        self._around = surroundings
        self._log = log_
        self._record = record
        self._prepared = False
        self._outlived: set[ProcessId] = set()
        self._scripts: dict[Script, tuple[asyncio.Task[None], ...]] = {}

    async def perform(self, step: StepName, spawned: Callable[[], None]) -> StepOutcome:
        """Run the step's script to its end, or say why it could not be run."""
        todo = self._spec.lifecycle.steps.get(step)
        if todo is None or not todo.script.strip():
            return NOTHING
        try:
            who, owner = self._who(todo), self._owner()
        except LookupError as error:
            return failed(step, "MISSING_DEFAULT_RUNWITH", str(error.args[0]))
        env = self._env(step, todo, who)
        if todo.skip_if is not None and skips(todo.skip_if, env, self._spec.work):
            return NOTHING
        try:
            await self._check(todo, owner)
        except VergeError as error:
            return failed(step, "IO_ERROR", f"The {step} script is not started: {error}.")
        try:
            script = await _born(self._start(step, todo, env, who, owner))
        except OSError as error:
            return failed(step, "IO_ERROR", f"The {step} script could not be started: {error}.")
        spawned()
        return await self._finish(step, script, None if step is StepName.STARTUP else todo.timeout_s)

    async def kill(self) -> None:
        """End every process of the component and read its last words."""
        left = await process_tree.end(self._processes)
        if left:
            pids = sorted(process.pid for process in left)
            log.error("component %s: process(es) %s would not end", self._spec.name, pids)
        await self._last_words()
        self._outlived = left
        if not left:
            self._around.enforcer.release(self._spec.name)
            self._record.clear()
        self._log.close()

    async def freeze(self) -> None:
        """Have every process of the component stand still."""
        await asyncio.to_thread(self._around.freezer.freeze, self._spec.name, self._processes)

    async def thaw(self) -> None:
        """Have them go on."""
        await asyncio.to_thread(self._around.freezer.thaw, self._spec.name, self._processes)

    def update(self, spec: ComponentSpec) -> str:
        """Be this from the next step on; limits hold at once."""
        if spec.limits != self._spec.limits:
            pids = [process.pid for process in self._processes()]
            self._around.enforcer.update(spec.name, pids, spec.limits)
        same = (spec.work, spec.owned, spec.run_as) == (self._spec.work, self._spec.owned, self._spec.run_as)
        self._spec, self._prepared = spec, self._prepared and same
        return self._around.enforcer.note(spec.limits)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _who(self, step: LifecycleStep) -> Identity | None:
        """The user to switch to, None for no switch; raises ``LookupError`` with a sentence."""
        spec = self._spec
        if os.geteuid() != 0:
            if step.privileged or (spec.run_as is not None and look_up(spec.run_as).uid != os.geteuid()):
                self._say("WARN", "The agent is not root: the script runs as the agent's own user.")
            return None
        if self._privileged(step):
            return look_up(ROOT)
        who = spec.run_as or self._around.default_user
        if who is None:
            raise LookupError("The agent is root, and no user is named for components to run as.")
        return look_up(who)

    async def _check(self, step: LifecycleStep, owner: Identity | None) -> None:
        """Have the component's files be what came; raises ``VergeError`` where they cannot."""
        if self._privileged_steps and owner is not None and owner.uid != os.geteuid() and not self._prepared:
            await asyncio.to_thread(reclaim, self._owned(), owner.uid)
        wrong = await self._around.guard(self._spec, self._privileged(step))
        if wrong:
            self._prepared = False
            self._say("WARN", f"Files were put back as they came: {', '.join(wrong)}.")
            log.warning("component %s: files were put back as they came: %s", self._spec.name, ", ".join(wrong))

    def _privileged(self, step: LifecycleStep) -> bool:
        return os.geteuid() == 0 and step.privileged and self._spec.privileged

    @property
    def _privileged_steps(self) -> bool:
        return any(map(self._privileged, self._spec.lifecycle.steps.values()))

    def _owned(self) -> list[Path]:
        return [path for path in self._spec.owned if path.exists()]

    def _env(self, step: StepName, todo: LifecycleStep, who: Identity | None) -> dict[str, str]:
        base = {**self._around.env, **(who.env if who else {}), **self._spec.env}
        if step is StepName.UNINSTALL:
            base["GREENGRASS_COMPONENT_VERSION"] = self._spec.version
        return environment.of_step(base, self._token, self._spec.lifecycle, todo)

    async def _start(
        self, step: StepName, todo: LifecycleStep, env: Mapping[str, str], who: Identity | None, owner: Identity | None
    ) -> Script:
        if not self._prepared:
            await asyncio.to_thread(self._prepare, owner)
            self._prepared = True
        self._record.open()
        shell = self._spec.shell or self._around.shell
        script = await Script.start(todo.script, work=self._spec.work, env=env, who=who, shell=shell)
        try:
            self._record.add(script.leader)
            self._around.enforcer.attach(self._spec.name, script.leader.pid, self._spec.limits)
            script.go()
        except OSError:
            script.close()
            raise
        name = f"agent.component.{self._spec.name}.{step}"
        context = {"scriptName": f"services.{self._spec.name}.lifecycle.{step}.script"}
        self._scripts[script] = tuple(
            self._around.tasks.create_task(
                pump(reader, partial(self._log.write, level, event, context=context)), name=f"{name}.{event}"
            )
            for reader, level, event in ((script.stdout, "INFO", "stdout"), (script.stderr, "WARN", "stderr"))
        )
        return script

    def _owner(self) -> Identity | None:
        """Whose the component is, whoever runs the step; None leaves its files the agent's."""
        who = self._spec.run_as or self._around.default_user
        return look_up(who) if who is not None and os.geteuid() == 0 else None

    def _prepare(self, owner: Identity | None) -> None:
        try:
            self._own(owner)
        except OSError as error:
            # On a disk that takes nothing, what an earlier start made is used as it is.
            if error.errno != errno.EROFS or not self._spec.work.is_dir():
                raise

    def _own(self, owner: Identity | None) -> None:
        work = self._spec.work
        make_folder(work, ours=True)
        if owner is not None:
            os.chown(work, owner.uid, owner.gid)
            give((work,), owner)
            # What root runs stays root's, for the user to read; the rest is the user's, as with Greengrass.
            give(self._owned(), replace(look_up(ROOT), gid=owner.gid) if self._privileged_steps else owner)

    # -- ending -------------------------------------------------------------------------------------------------------

    async def _finish(self, step: StepName, script: Script, timeout_s: float | None) -> StepOutcome:
        try:
            async with asyncio.timeout(timeout_s):
                status = await script.wait()
        except TimeoutError:
            await process_tree.end(lambda sessions: process_tree.members({script.leader}, sessions=sessions))
            return failed(step, "TIMEOUT", f"The {step} script did not end within {timeout_s:g} s.")
        self._outlived |= await asyncio.to_thread(process_tree.left_behind, script.leader.pid)
        self._forget_finished()
        return OK if status == 0 else failed(step, "ERROR", f"The {step} script {_cause(status)}.", status)

    async def _last_words(self) -> None:
        """Read what is left in the pipes, but not for ever."""
        scripts, self._scripts = self._scripts, {}
        pumps = [task for tasks in scripts.values() for task in tasks]
        if pumps:
            _, late = await asyncio.wait(pumps, timeout=_LAST_WORDS_S)
            for task in late:
                task.cancel()
            if late:
                self._say("WARN", "The rest of the output was dropped: it came faster than it could be written.")
        for script in scripts:
            script.close()

    def _forget_finished(self) -> None:
        for script, pumps in list(self._scripts.items()):
            if all(task.done() for task in pumps):
                script.close()
                del self._scripts[script]

    def _processes(self, sessions: Collection[int] = ()) -> set[ProcessId]:
        listed = self._around.enforcer.pids(self._spec.name)
        return process_tree.members(self._record.leaders | self._outlived, self._token, listed, sessions)

    def _say(self, level: str, sentence: str) -> None:
        self._log.write(level, "lifecycle", sentence, {})


async def _born(starting: Coroutine[Any, Any, Script]) -> Script:
    """Start a script; when cancelled, only after it was started, so that whoever kills next can find it."""
    task = asyncio.get_running_loop().create_task(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()
        raise


def skips(skip: Skip, env: Mapping[str, str], work: Path) -> bool:
    """Whether a step counts as nothing to do; a relative file is looked for in the work folder."""
    if skip.condition is Condition.ON_PATH:
        holds = shutil.which(skip.argument, path=env.get("PATH", os.defpath)) is not None
    else:
        name = skip.argument
        home = env.get("HOME", "")
        # os.path says no where it may not look; a Path would raise.
        holds = os.path.exists(work / (f"{home}{name[1:]}" if name.startswith("~/") else name))  # noqa: PTH110
    return holds is not skip.unless


def _cause(status: int) -> str:
    if status >= 0:
        return f"exited with code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class Script:
    """A script that waits for ``go``; ``leader`` is its shell, ``stdout`` and ``stderr`` are its output."""

    def __init__(self, process: asyncio.subprocess.Process, leader: ProcessId, pipes: _Pipes) -> None:
        self._process = process
        self._pipes = pipes
        self.leader = leader
        self.stdout = pipes.stdout
        self.stderr = pipes.stderr

    @classmethod
    async def start(
        cls, script: str, *, work: Path, env: Mapping[str, str], who: Identity | None, shell: str
    ) -> Script:
        """Have a script ready in ``work``, as another user if ``who`` is given; raises ``OSError``."""
        pipes = await _Pipes.open()
        user, group, groups = (who.uid, who.gid, who.groups) if who else (None, None, None)
        try:
            process = await asyncio.create_subprocess_exec(
                shell, "-c", _GATE, shell, script,
                cwd=work, env=dict(env), start_new_session=True, user=user, group=group, extra_groups=groups,
                stdin=pipes.child[0], stdout=pipes.child[1], stderr=pipes.child[2],
            )  # fmt: skip
        except (subprocess.SubprocessError, ValueError) as error:
            pipes.close()
            raise OSError(str(error)) from error
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_child()
        # A shell that is over already has left nothing to find under this name.
        return cls(process, process_id(process.pid) or ProcessId(process.pid, -1), pipes)

    def go(self) -> None:
        """Let it run; raises ``OSError`` when its shell is gone."""
        self._pipes.tell(b"\n")

    async def wait(self) -> int:
        """The exit status; negative is the signal that ended it."""
        status = await self._process.wait()
        self._pipes.close_stdin()
        return status

    def close(self) -> None:
        """Let go of the pipes, whoever still holds their other ends."""
        self._pipes.close()


class _Pipes:
    """Standard input (open and silent), output and error of a script."""

    def __init__(self) -> None:
        stdin, self._stdin = os.pipe()
        self._ours: list[int] = []
        self.child = [stdin]
        for _ in range(2):
            ours, theirs = os.pipe()
            self._ours.append(ours)
            self.child.append(theirs)
        self._transports: list[asyncio.ReadTransport] = []
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()

    @classmethod
    async def open(cls) -> _Pipes:
        pipes = cls()
        loop = asyncio.get_running_loop()
        for descriptor, reader in zip(pipes._ours, (pipes.stdout, pipes.stderr), strict=True):
            file = os.fdopen(descriptor, "rb", buffering=0)
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), file)
            pipes._transports.append(transport)
        return pipes

    def tell(self, line: bytes) -> None:
        os.write(self._stdin, line)

    def close_child(self) -> None:
        for descriptor in self.child:
            os.close(descriptor)

    def close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def close(self) -> None:
        self.close_stdin()
        for transport in self._transports:
            with contextlib.suppress(RuntimeError):
                transport.close()
