"""A canary: a new model answers some of a stream's frames too, unseen, and what it says is compared.

The old model goes on serving.  A frame is tried only when the new model is free for it, so that the trial costs the
stream nothing but processor time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import VergeError
from agent.frames.frame import Frame
from agent.greengrass.deployments import canary
from agent.greengrass.deployments.canary import Canary, Verdict
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.golden import GoldenMismatchError
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer
from agent.results.comparison import agree
from agent.streams.stream import Stream

__all__ = ["Seen", "run"]

_AT_ONCE = 2
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A trial as it stands, for whoever watches."""

    stream: str
    frames: int
    agreement: float
    latency_ratio: float


async def run(stream: Stream, model: str, plane: InferencePlane, wish: Canary, told: Callable[[Seen], None]) -> None:
    """Try ``model`` on the stream's frames until the canary decides; raises ``GoldenMismatchError`` when it fails.

    A stream that brings too few frames in ten minutes (or in twice the seconds wished for) proves nothing: that is
    against it too.
    """
    loop = asyncio.get_running_loop()
    trial = _Trial(model, plane)
    began = loop.time()
    patience_s = max(_PATIENCE_S, 2 * (wish.seconds or 0))
    stream.observer = trial.observe
    try:
        async with asyncio.timeout(patience_s), asyncio.TaskGroup() as tasks:
            trial.tasks = tasks
            while True:
                decision = canary.verdict(wish, trial.trial, elapsed_s=loop.time() - began)
                told(Seen(stream.name, trial.trial.frames, trial.trial.agreement, trial.trial.latency_ratio))
                if decision.verdict is not Verdict.MORE:
                    break
                await trial.next(began + wish.seconds - loop.time() if wish.seconds else None)
            stream.observer = None
    except TimeoutError:
        reason = f"the canary saw {trial.trial.frames} frames in {patience_s:g} s, which is too few to decide"
        raise DeploymentError(reason, code="COMPONENT_UPDATE_ERROR", hint="is the camera sending?") from None
    finally:
        stream.observer = None
    if decision.verdict is Verdict.FAIL:
        raise GoldenMismatchError(f"the canary on {stream.name} decided against the new model: {decision.reason}")


class _Trial:
    def __init__(self, model: str, plane: InferencePlane) -> None:
        self.trial = canary.Trial()
        self.tasks: asyncio.TaskGroup
        self._model = model
        self._plane = plane
        self._busy = 0
        self._news = asyncio.Event()

    def observe(self, frame: Frame, answer: Answer) -> None:
        if self._busy < _AT_ONCE:
            self._busy += 1
            self.tasks.create_task(self._ask(frame, answer), name="agent.greengrass.deployments.trial")

    async def next(self, within_s: float | None) -> None:
        """Wait for the next comparison, or until the time of the trial is up."""
        self._news.clear()
        if within_s is None or within_s <= 0:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _ask(self, frame: Frame, old: Answer) -> None:
        try:
            new = await self._plane.infer(self._model, frame.picture, label=f"trial-{frame.camera}-{frame.sequence}")
        except VergeError:
            self.trial = self.trial.failed()
        else:
            same = agree(old.predictions, new.predictions)
            self.trial = self.trial.compared(same=same, old_ms=old.worker_ms, new_ms=new.worker_ms)
        finally:
            self._busy -= 1
            self._news.set()
