"""``verge demo --deploy``: the agent starts empty, and everything that it runs comes by jobs.

While frames come, the classifier is swapped for the detector, and then four bad deployments are tried.

::

    classifier → detector → classifier → detector   │ wrong labels, corrupt archive, truncated model, crash
                 (fetched)               (measured) │ the detector goes on, no frame is lost

The measured swap is the second to the detector: its archive is in the cache of the agent.  A frame counts as lost when
its number has no result once later frames have theirs, for whatever reason; a frame answered twice counts too.
"""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from agent.aws.jobs.topics import PREFIX
from agent.demo.broker import Broker
from agent.demo.jobs import JobEnd, Jobs
from agent.demo.kit import BAD, CLASSIFIER, DETECTOR, Kit
from agent.demo.listener import ResultListener
from agent.errors import UnreachableError

__all__ = [
    "FAILED",
    "STREAM",
    "THING",
    "DeployDemo",
    "FailedDeployment",
    "Minimum",
    "Rehearsal",
    "Swap",
    "aws_prefix",
    "deploying",
]

THING, STREAM = "demo", "cameras"
FAILED = ("FAILED_ROLLBACK_COMPLETE", "FAILED_NO_STATE_CHANGE")
"""How a bad deployment may end."""

_READY_S = 60.0
_SILENCE_S = 5.0
_SWAP_S = 1.5
_FAILURE_S = 2.0
_SETTLE_S = 5.0
_WARM_UP = 10
_AFTER = 10
"""Frames that are waited for after each deployment."""
_SHOWN = 120

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Minimum:
    """How many frames and seconds there are at the least."""

    frames: int
    seconds: float


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """The measured deployment; ``swap_gap_frames`` were not answered, or twice, in this or one of the swaps before."""

    status: str
    seconds: float
    swap_gap_frames: int
    first_seconds: float
    """Of the same one before, when its archive was not in the cache."""


class FailedDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that was to fail."""

    case: str
    status: str
    reason: str
    seconds: float
    frames_lost: int


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """How all of it went; ``model`` answers at the end."""

    deployment: Swap
    failures: tuple[FailedDeployment, ...]
    model: str

    @property
    def shortcomings(self) -> list[str]:
        """The promises that were not kept, in sentences; empty when all were."""
        swap = self.deployment
        broken = []
        if (swap.status, swap.swap_gap_frames) != ("SUCCESSFUL", 0) or swap.seconds > _SWAP_S:
            broken.append(f"the swap: {swap.status}, {swap.swap_gap_frames} frames lost, {swap.seconds:.2f} s")
        broken += [
            f"{one.case}: {one.status}, {one.frames_lost} frames lost, {one.seconds:.2f} s"
            for one in self.failures
            if one.status not in FAILED or one.frames_lost or one.seconds > _FAILURE_S or not one.reason
        ]
        if self.model != DETECTOR:
            broken.append(f"{self.model} answers at the end, not {DETECTOR}")
        return broken


class DeployDemo:
    """The course of ``--deploy``: the first deployment, then good and bad ones while frames come."""

    def __init__(self, minimum: Minimum, jobs: Jobs, kit: Kit, listener: ResultListener) -> None:
        self.rehearsal: Rehearsal | None = None
        self._minimum = minimum
        self._jobs = jobs
        self._kit = kit
        self._listener = listener

    async def install(self) -> None:
        """Deploy the classifier on a device that has nothing; raises ``UnreachableError`` where no stream comes."""
        done = await self._jobs.run(self._kit.document(CLASSIFIER))
        if not await self._listener.until(lambda scores: scores.report.state != "", _READY_S):
            raise UnreachableError(f"the first deployment brought no stream: {done.status} {done.reason}")

    async def run(self, say: Say) -> None:
        """Deploy, and go on until there were as many frames and seconds as the minimum says."""
        began, minimum = time.monotonic(), self._minimum
        self.rehearsal = await _rehearse(self._jobs, self._kit, self._listener, say)
        await asyncio.sleep(max(0.0, minimum.seconds - (time.monotonic() - began)))
        await self._listener.until(lambda scores: scores.report.received >= minimum.frames, _SILENCE_S)


@asynccontextmanager
async def deploying(
    minimum: Minimum, broker: Broker, listener: ResultListener, folder: Path, snapshots: Path
) -> AsyncIterator[DeployDemo]:
    """The deployments on a broker until the context is left; their files are made in ``folder``."""
    stream = {
        "Input": {"Topic": "cameras/+/frame", "Qos": 1},
        # A swap takes processors from the model that serves: frames wait for it rather than make room.
        "Policy": "fifo",
        "Depth": 64,
        "Snapshots": {"Folder": str(snapshots), "Keep": 60},
    }
    kit = await asyncio.to_thread(Kit, folder / "components", STREAM, stream)
    async with Jobs.serving(broker, THING, aws_prefix(broker), folder) as jobs:
        yield DeployDemo(minimum, jobs, kit, listener)


def aws_prefix(broker: Broker) -> str:
    """The prefix of AWS's topics there: rumqttd drops a client that publishes to one with a leading ``$``."""
    return PREFIX if broker.kind == "mosquitto" else "verge/aws"


async def _rehearse(jobs: Jobs, kit: Kit, listener: ResultListener, say: Say) -> Rehearsal:
    """Swap and fail while frames come; ``say`` gets a line of each deployment."""
    await listener.until(lambda scores: scores.sequences.highest >= _WARM_UP, _SETTLE_S)
    runner = _Runner(jobs, kit, listener, say)
    first, gap = await runner.run("detector", DETECTOR)
    _, back_gap = await runner.run("back to the classifier", CLASSIFIER)
    swap, last_gap = await runner.run("detector, from the cache", DETECTOR)
    failures = []
    for case, version in BAD.items():
        done, lost = await runner.run(case.replace("-", " "), DETECTOR, version)
        failures.append(
            FailedDeployment(case=case, status=done.status, reason=done.reason, seconds=done.seconds, frames_lost=lost)
        )
    return Rehearsal(
        deployment=Swap(
            status=swap.status,
            seconds=swap.seconds,
            swap_gap_frames=gap + back_gap + last_gap,
            first_seconds=first.seconds,
        ),
        failures=tuple(failures),
        model=listener.scores.answering,
    )


class _Runner:
    """Runs one deployment after the other and counts what it cost in frames."""

    def __init__(self, jobs: Jobs, kit: Kit, listener: ResultListener, say: Say) -> None:
        self._jobs = jobs
        self._kit = kit
        self._listener = listener
        self._say = say

    async def run(self, what: str, model: str, version: str = "1.0.0") -> tuple[JobEnd, int]:
        """How it ended, and the frames that were lost or answered twice meanwhile and shortly after."""
        sequences = self._listener.scores.sequences
        after = sequences.highest
        done = await self._jobs.run(self._kit.document(model, version))
        upto = sequences.highest + _AFTER
        lost = await self._lost(after, upto)
        frames = "no frame lost" if not lost else f"{lost} frames LOST"
        why = f": {textwrap.shorten(done.cause, _SHOWN, placeholder=' …')}" if done.cause else ""
        self._say(f"{what}: {done.status} in {done.seconds:.2f} s, {frames}{why}")
        return done, lost

    async def _lost(self, after: int, upto: int) -> int:
        """Results come a little out of order where models change: holes are given time to close."""
        sequences = self._listener.scores.sequences
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self._listener.until(
                    lambda _: sequences.highest >= upto and not sequences.missing(after, upto), _SETTLE_S
                )
        except TimeoutError:
            upto = sequences.highest
        return sequences.missing(after, upto) + sequences.twice(after, upto)
