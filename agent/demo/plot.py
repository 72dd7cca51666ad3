"""The plot of ``verge demo --deploy``: the agent starts empty, and everything that happens to it comes by jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.aws.jobs.topics import PREFIX
from agent.demo.broker import Broker
from agent.demo.jobs import Jobs
from agent.demo.kit import Kit
from agent.demo.listener import Ear
from agent.demo.rehearsal import Rehearsal, install, rehearse
from agent.errors import UnreachableError

__all__ = ["STREAM", "THING", "Least", "Plot", "aws_prefix", "plotted"]

THING, STREAM = "demo", "cameras"

_READY_S = 60.0
_SILENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Least:
    """How many frames and seconds there are at the least."""

    frames: int
    seconds: float


class Plot:
    """What ``--deploy`` does: the first deployment, then good and bad ones while frames come."""

    def __init__(self, least: Least, jobs: Jobs, kit: Kit, ear: Ear) -> None:
        self.rehearsal: Rehearsal | None = None
        self._least = least
        self._jobs = jobs
        self._kit = kit
        self._ear = ear

    async def install(self) -> None:
        """Raises ``UnreachableError`` when there is no stream then."""
        done = await install(self._jobs, self._kit)
        if not await self._ear.until(lambda scores: scores.report.state != "", _READY_S):
            raise UnreachableError(f"the first deployment brought no stream: {done.status} {done.reason}")

    async def run(self, say: Callable[[str], None]) -> None:
        """Deploy, and go on until there were as many frames and seconds as wished for."""
        began, least = time.monotonic(), self._least
        self.rehearsal = await rehearse(self._jobs, self._kit, self._ear, say)
        await asyncio.sleep(max(0.0, least.seconds - (time.monotonic() - began)))
        await self._ear.until(lambda scores: scores.report.received >= least.frames, _SILENCE_S)


@asynccontextmanager
async def plotted(least: Least, broker: Broker, ear: Ear, folder: Path, snapshots: Path) -> AsyncIterator[Plot]:
    """A plot on a broker until the context is left; its files are made in ``folder``."""
    stream = {
        "Input": {"Topic": "cameras/+/frame", "Qos": 1},
        # A swap takes processors from the model that serves: frames wait for it rather than make room.
        "Policy": "fifo",
        "Depth": 64,
        "Snapshots": {"Folder": str(snapshots), "Keep": 60},
    }
    kit = await asyncio.to_thread(Kit, folder / "components", STREAM, stream)
    async with Jobs.serving(broker.port, THING, aws_prefix(broker), folder) as jobs:
        yield Plot(least, jobs, kit, ear)


def aws_prefix(broker: Broker) -> str:
    """What AWS's topics begin with there: rumqttd drops a client that publishes to one with a leading ``$``."""
    return PREFIX if broker.kind == "mosquitto" else "verge/aws"
