"""The order of events: broker, listener, agent, cameras start; then cameras, agent and broker stop.

The demo is over when the cameras have published what was asked, when the time is up, when a signal comes or
when a child dies.  Whatever the cause, the cameras stop first, what they published is waited for, and only
then is the agent stopped: it reports its last counters on leaving.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agent import __version__
from agent.demo import broker as brokers
from agent.demo.broker import USER, Broker
from agent.demo.child import ChildProgram
from agent.demo.inspection import ANOMALIES, Anomalies
from agent.demo.listener import ResultListener
from agent.demo.rehearsal import STREAM, THING, DeployDemo, Minimum, Rehearsal, aws_prefix, deploying
from agent.demo.scores import Scores, Summary
from agent.demo.table import Setting, View, view
from agent.errors import UnreachableError
from agent.inference.manifest import sample_names
from agent.service import StopSignals, stop_signals

__all__ = ["DemoOptions", "DemoOutcome", "show"]

_CAMERAS = ("front-door", "line-3", "yard", "gate")
_BELTS = tuple(f"belt-{number}" for number in range(1, 5))
_TEMPLATE = Path(__file__).parent / "demo.toml"
_BY_DEPLOYMENT = Path(__file__).parent / "deploy.toml"
_INSPECTION = Path(__file__).parent / "inspect.toml"
_PICTURES = Path(__file__).parents[1] / "samples" / "images"
_SNAPSHOTS = "snapshots"
_RESULTS = ("results", f"verge/{THING}/results/#")
_ANOMALIES = ("anomalies", ANOMALIES.format(thing=THING, stream=STREAM))

_READY_S = 60.0
_SILENCE_S = 5.0
_LAST_WORDS_S = 1.0
_AGENT_STOP_S = 15.0
_REDRAW_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The options of the command."""

    frames: int | None
    seconds: float | None
    cameras: int
    fps: float
    model: str
    broker: str
    port: int
    keep: bool
    deploy: bool = False
    """The model comes by deployments, good ones and bad ones; frames and seconds are the least then."""
    inspect: bool = False
    """The cameras stand above belts of parts, some of which are scratched."""

    @property
    def camera_names(self) -> list[str]:
        """As many names as there are cameras."""
        return [
            *(_BELTS if self.inspect else _CAMERAS),
            *(f"camera-{number}" for number in range(5, self.cameras + 1)),
        ][: self.cameras]


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """The results of a demo."""

    summary: Summary
    broker: str
    snapshots: Path
    trouble: str
    """The error that ended the demo; empty where none did."""
    rehearsal: Rehearsal | None = None
    """How the deployments went, where there were any."""
    anomalies: Anomalies | None = None
    """How the verdicts on parts went, where there were any."""

    @property
    def good(self) -> bool:
        """Whether nothing died, every frame is accounted for, deployments went as promised and anomalies were told."""
        promised = self.rehearsal is None or not self.rehearsal.shortcomings
        told = self.anomalies is None or self.anomalies.all_announced
        return self.summary.balanced and not self.trouble and promised and told


async def show(options: DemoOptions, console: Console) -> DemoOutcome:
    """Run the demo; raises ``VergeError`` for what could not be started."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_work_folder(keep=options.keep))
        signals = await stack.enter_async_context(stop_signals())
        broker = await stack.enter_async_context(
            brokers.running(options.broker, options.port, folder, private=options.deploy)
        )
        listener = await stack.enter_async_context(
            ResultListener.listening(broker, THING, STREAM, options.camera_names)
        )
        agent = await stack.enter_async_context(_agent(options, broker, folder))
        session = _Session(options, signals, broker, listener, agent)
        deployments = (
            await stack.enter_async_context(
                deploying(
                    Minimum(options.frames or 0, options.seconds or 0.0), broker, listener, folder, folder / _SNAPSHOTS
                )
            )
            if options.deploy
            else None
        )
        await session.until_agent_runs(deployments)
        cameras = await stack.enter_async_context(_cameras(options, broker, folder))
        with view(console, session.setting(folder)) as seen:
            trouble = await session.play(cameras, seen, deployments)
            summary = await session.close(cameras, trouble)
            session.draw(seen)
        return DemoOutcome(
            summary,
            str(broker),
            folder / _SNAPSHOTS,
            trouble,
            deployments.rehearsal if deployments else None,
            listener.inspection.figures if options.inspect else None,
        )


class _Session:
    """The running parts, and the steps of the demo."""

    def __init__(
        self, options: DemoOptions, signals: StopSignals, broker: Broker, listener: ResultListener, agent: ChildProgram
    ) -> None:
        self._options = options
        self._signals = signals
        self._broker = broker
        self._listener = listener
        self._agent = agent

    async def until_agent_runs(self, deployments: DeployDemo | None) -> None:
        """Wait for the agent's first report, which follows its subscription; with a plot, its first deployment."""
        reported = self._listener.until(lambda scores: scores.report.state != "", _READY_S)
        first: Coroutine[Any, Any, Any] = deployments.install() if deployments else reported
        if deployments:
            reported.close()
        await _first_of({"report": first, **self._ends()})
        self._raise_if_dead()
        if not self._listener.scores.report.state and not self._signals.received:
            raise UnreachableError(f"the agent is not ready after {_READY_S:g} s\n{self._agent.last_lines()}")

    def setting(self, folder: Path) -> Setting:
        """The table's header."""
        model = self._listener.scores.report.model or {}
        facts = [str(model[key]) for key in ("component", "version", "backend") if key in model]
        return Setting(
            broker=str(self._broker),
            port=self._broker.port,
            agent=f"verge {__version__}, process {self._agent.pid}",
            model=("at first " if self._options.deploy else "") + " ".join(facts),
            snapshots=str(folder / _SNAPSHOTS),
            news=_ANOMALIES if self._options.inspect else _RESULTS,
        )

    async def play(self, cameras: ChildProgram, seen: View, deployments: DeployDemo | None) -> str:
        """Show the rows until it is over; the result is the error, if there was one."""
        waits = {"table": self._draw(seen), "cameras": cameras.ended(), **self._ends()}
        if deployments:
            waits["plot"] = deployments.run(seen.say)
        await _first_of(waits, None if deployments else self._options.seconds)
        for child in (self._broker.child, self._agent):
            if not child.alive:
                return child.end_error().message
        if not cameras.alive and cameras.process.returncode != 0:
            return cameras.end_error().message
        return "the demo ended before its deployments did" if deployments and not deployments.rehearsal else ""

    async def close(self, cameras: ChildProgram, trouble: str) -> Summary:
        """Have what was published answered, unless there is trouble; stop the agent and take its last report."""
        await cameras.stop()
        published = await _published(cameras)
        scores, inspection = self._listener.scores, self._listener.inspection

        def complete(_: Scores) -> bool:
            return scores.summary(published).balanced and inspection.figures.all_announced

        if not trouble:
            await self._listener.until(complete, _SILENCE_S)
        await self._agent.stop()
        await self._listener.until(complete, _LAST_WORDS_S)
        return scores.summary(published)

    def draw(self, seen: View) -> None:
        """Show the rows as they are, and the verdicts since the last time."""
        inspection = self._listener.inspection
        for verdict in inspection.fresh():
            seen.say(str(verdict), verdict.style)
        tally = str(inspection.figures) if self._options.inspect else ""
        seen.show(self._listener.scores.rows(time.monotonic()), tally)

    async def _draw(self, seen: View) -> None:
        while True:
            self.draw(seen)
            await asyncio.sleep(_REDRAW_S)

    def _ends(self) -> dict[str, Coroutine[Any, Any, Any]]:
        return {"signal": self._signals.wait(), "broker": self._broker.child.ended(), "agent": self._agent.ended()}

    def _raise_if_dead(self) -> None:
        for child in (self._broker.child, self._agent):
            if not child.alive:
                raise child.end_error()


async def _first_of(waits: Mapping[str, Coroutine[Any, Any, Any]], timeout_s: float | None = None) -> None:
    """Wait until one of them is over, or the time is; the others are cancelled."""
    tasks = [asyncio.create_task(wait, name=f"demo.{name}") for name, wait in waits.items()]
    try:
        over, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in over:
        task.result()


async def _published(cameras: ChildProgram) -> dict[str, int]:
    """The cameras' own counts, printed on leaving; none when they were ended before they could."""
    assert cameras.process.stdout is not None  # noqa: S101 it is piped
    printed = await cameras.process.stdout.read()
    return json.loads(printed)["published"] if printed else {}


def _agent(options: DemoOptions, broker: Broker, folder: Path) -> ChildProgram:
    """The agent as it runs everywhere; the user's own VERGE_… settings are not the demo's."""
    config = folder / "demo.toml"
    shutil.copyfile(_template(options), config)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")} | {
        "VERGE_DATA_DIR": _toml(str(folder / "data")),
        "VERGE_TRANSPORTS__LOCAL__PORT": str(broker.port),
    }
    if broker.password_file:
        environment["VERGE_TRANSPORTS__LOCAL__USERNAME"] = _toml(USER)
        environment["VERGE_TRANSPORTS__LOCAL__PASSWORD_FILE"] = _toml(str(broker.password_file))
    if options.deploy:
        environment["VERGE_DEPLOYMENTS__AWS_PREFIX"] = _toml(aws_prefix(broker))
    else:
        environment["VERGE_MODELS__SAMPLE__SOURCE"] = _toml(_source(options.model))
        environment["VERGE_STREAMS__CAMERAS__SNAPSHOTS__FOLDER"] = _toml(str(folder / _SNAPSHOTS))
    arguments = [sys.executable, "-m", "agent", "run", "-c", str(config)]
    return ChildProgram("agent", arguments, folder / "agent.log", environment=environment, deadline_s=_AGENT_STOP_S)


def _template(options: DemoOptions) -> Path:
    if options.deploy:
        return _BY_DEPLOYMENT
    return _INSPECTION if options.inspect else _TEMPLATE


def _toml(text: str) -> str:
    """A text as a TOML string, which is one of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _source(model: str) -> str:
    """A sample by its name; a path as the agent sees it, which starts elsewhere."""
    return model if model in sample_names() else str(Path(model).expanduser().resolve())


def _cameras(options: DemoOptions, broker: Broker, folder: Path) -> ChildProgram:
    arguments = [sys.executable, "-m", "agent.demo.camera", "--port", str(broker.port), "--fps", str(options.fps)]
    arguments += ["--belt"] if options.inspect else ["--pictures", str(_PICTURES)]
    if broker.password_file:
        arguments += ["--username", USER, "--password-file", str(broker.password_file)]
    if options.frames and not options.deploy:
        arguments += ["--frames", str(options.frames)]
    return ChildProgram(
        "cameras", [*arguments, *options.camera_names], folder / "cameras.log", piped=True, deadline_s=15.0
    )


@contextmanager
def _work_folder(*, keep: bool) -> Iterator[Path]:
    """A folder of its own; of what is in it, only the annotated pictures stay, unless all is kept.

    The pictures are what people want to look at afterwards; the system clears its temporary folder in time.
    """
    folder = Path(tempfile.mkdtemp(prefix="verge-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            _clear(folder)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name == _SNAPSHOTS:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
