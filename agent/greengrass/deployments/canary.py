"""A canary: a new model answers some of a stream's frames too, unseen, and its answers are compared with the old one's.

The old model goes on serving.  A frame is tried only when the new model is free for it, so that the trial costs the
stream nothing but processor time.  After so many frames, or so many seconds, the share of agreement and the ratio of
the median latencies decide.  ``agent.results.comparison`` says what two answers differ in.

A frame that the new model fails and the old one answers is a disagreement; one that the old model fails proves nothing
and is not counted.  A verdict of FAIL comes early, as soon as the frames that are left could not change it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from agent.errors import VergeError
from agent.frames.frame import Frame
from agent.greengrass.deployments.golden import GoldenMismatchError
from agent.greengrass.deployments.request import Canary
from agent.greengrass.errors import DeploymentError
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer
from agent.results.comparison.answers import difference
from agent.streams.stream import Stream

__all__ = ["CanaryVerdict", "Decision", "Trial", "pace_s", "run", "verdict"]

MAX_LATENCIES: Final = 1024
"""The last ones count, so that a trial of hours stays small."""
_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """What was counted so far; latencies are milliseconds, of the frames that both models answered."""

    agreed: int = 0
    differed: int = 0
    old_ms: tuple[float, ...] = ()
    new_ms: tuple[float, ...] = ()
    first: str = ""
    """What the new model said otherwise on the first frame on which it did."""

    @property
    def frames(self) -> int:
        """How many frames were compared."""
        return self.agreed + self.differed

    @property
    def agreement(self) -> float:
        """The share of frames on which both models agree; 1 before the first frame."""
        return self.agreed / self.frames if self.frames else 1.0

    @property
    def latency_ratio(self) -> float:
        """The new model's median latency in the old one's; 0 before the first frame that both answered."""
        old = statistics.median(self.old_ms) if self.old_ms else 0.0
        return statistics.median(self.new_ms) / old if old > 0 else 0.0

    def compared(self, difference: str, *, old_ms: float, new_ms: float) -> Trial:
        """With a frame that both models answered, and what the new one said otherwise."""
        counted = self._counted(difference)
        old, new = (*self.old_ms, old_ms)[-MAX_LATENCIES:], (*self.new_ms, new_ms)[-MAX_LATENCIES:]
        return replace(counted, old_ms=old, new_ms=new)

    def failed(self) -> Trial:
        """With a frame that the old model answered and the new one did not."""
        return self._counted("does not answer")

    def _counted(self, difference: str) -> Trial:
        if not difference:
            return replace(self, agreed=self.agreed + 1)
        return replace(self, differed=self.differed + 1, first=self.first or difference)


class CanaryVerdict(Enum):
    """What a trial says of the new model."""

    PASS = "pass"  # noqa: S105 a verdict
    FAIL = "fail"
    MORE = "more"
    """It has seen too few frames."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and of a FAIL the reason: a sentence with the numbers."""

    verdict: CanaryVerdict
    reason: str = ""


def verdict(canary: Canary, trial: Trial, *, elapsed_s: float) -> Decision:
    """The decision after ``elapsed_s`` seconds of trial; time without any frame is no proof, and asks for more."""
    if canary.frames is not None and (canary.frames - trial.differed) / canary.frames < canary.agreement:
        return Decision(CanaryVerdict.FAIL, _disagreement(canary, trial))
    enough = trial.frames >= canary.frames if canary.frames is not None else elapsed_s >= (canary.seconds or 0)
    if not enough or not trial.frames:
        return Decision(CanaryVerdict.MORE)
    if trial.agreement < canary.agreement:
        return Decision(CanaryVerdict.FAIL, _disagreement(canary, trial))
    if trial.latency_ratio > canary.latency_ratio:
        return Decision(
            CanaryVerdict.FAIL,
            f"the new model takes {trial.latency_ratio:.2f} times as long as the old one over {trial.frames} frames; "
            f"{canary.latency_ratio:g} times is allowed",
        )
    return Decision(CanaryVerdict.PASS)


def _disagreement(canary: Canary, trial: Trial) -> str:
    return (
        f"the new model disagrees with the old one on {trial.differed} of {trial.frames} frames; "
        f"agreement on {canary.agreement:.0%} is wanted; on the first of them it {trial.first}"
    )


def pace_s(plane: InferencePlane, *models: str) -> float:
    """How long one answer of each of the models takes together, as far as their warm-ups tell."""
    return sum(plane.metadata(model).longest_ms for model in models) / 1e3


async def run(
    stream: Stream, model: str, plane: InferencePlane, asked: Canary, report: Callable[[str, Trial], None]
) -> None:
    """Try ``model`` on the stream's frames until the canary decides; ``report`` takes the stream and what was counted.

    A stream that brings too few frames in the canary's time proves nothing: that is against the new model too.

    Raises:
        GoldenMismatchError: the canary decided against the new model.
        DeploymentError: there were too few frames to decide.
    """
    loop = asyncio.get_running_loop()
    counter = _Counter(model, plane)
    began = loop.time()
    timeout_s = asked.patience_s
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
            counter.tasks = tasks
            stream.observer = counter.observe
            while True:
                decision = verdict(asked, counter.trial, elapsed_s=loop.time() - began)
                report(stream.name, counter.trial)
                if decision.verdict is not CanaryVerdict.MORE:
                    break
                await counter.next(began + asked.seconds - loop.time() if asked.seconds else None)
            stream.observer = None
    except TimeoutError:
        seen = counter.trial.frames
        reason = f"the canary on {stream.name} saw {seen} frame{'' if seen == 1 else 's'} in {timeout_s:g} s, " + (
            f"and {asked.frames} are asked for" if asked.frames else "which is too few to decide"
        )
        hint = "is the camera sending? ask for fewer frames, give the canary a longer timeout_s, or deploy without one"
        raise DeploymentError(reason, code="COMPONENT_UPDATE_ERROR", hint=hint) from None
    finally:
        stream.observer = None
    if decision.verdict is CanaryVerdict.FAIL:
        raise GoldenMismatchError(f"the canary on {stream.name} decided against the new model: {decision.reason}")


class _Counter:
    """Compares both models' answers, a few frames at a time."""

    def __init__(self, model: str, plane: InferencePlane) -> None:
        self.trial = Trial()
        self.tasks: asyncio.TaskGroup
        self._model = model
        self._plane = plane
        self._busy = 0
        self._compared = asyncio.Event()

    def observe(self, frame: Frame, answer: Answer) -> None:
        if self._busy < _AT_ONCE:
            self._busy += 1
            self.tasks.create_task(self._compare(frame, answer), name="agent.greengrass.deployments.canary")

    async def next(self, within_s: float | None) -> None:
        """Wait for the next comparison, or until the time of the trial is up."""
        self._compared.clear()
        if within_s is None or within_s <= 0:
            await self._compared.wait()
            return
        try:
            async with asyncio.timeout(within_s):
                await self._compared.wait()
        except TimeoutError:
            return

    async def _compare(self, frame: Frame, old: Answer) -> None:
        try:
            new = await self._plane.infer(self._model, frame.picture, label=f"trial-{frame.camera}-{frame.sequence}")
        except VergeError:
            self.trial = self.trial.failed()
        else:
            # Masks and maps take milliseconds, which no frame has to wait for.
            words = await asyncio.to_thread(difference, old.predictions, new.predictions, aspect=old.aspect)
            self.trial = self.trial.compared(words, old_ms=old.worker_ms, new_ms=new.worker_ms)
        finally:
            self._busy -= 1
            self._compared.set()
