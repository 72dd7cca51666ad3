"""Deployments while frames come: the classifier is swapped for the detector, and then four bad ones are tried.

::

    classifier → detector → classifier → detector   │ wrong labels, corrupt archive, truncated model, crash
                 (fetched)               (measured) │ the detector goes on, no frame is lost

The measured swap is the second to the detector: its archive is in the cache of the agent.  A frame counts as lost when
its number has no result once later frames have theirs, for whatever reason; a frame answered twice counts too.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable

import msgspec

from agent.demo.jobs import Done, Jobs
from agent.demo.kit import BAD, CLASSIFIER, DETECTOR, Kit
from agent.demo.listener import Ear

__all__ = ["FAILED", "Failure", "Rehearsal", "Swap", "install", "rehearse"]

FAILED = ("FAILED_ROLLBACK_COMPLETE", "FAILED_NO_STATE_CHANGE")
"""How a bad deployment may end."""

_SWAP_S = 1.5
_FAILURE_S = 2.0
_WARM_UP = 10
_AFTER = 10
"""Frames that are waited for after each deployment."""
_SETTLE_S = 5.0
_SHOWN = 120

Say = Callable[[str], None]


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """The measured deployment; ``swap_gap_frames`` were not answered, or twice, in this or one of the swaps before."""

    status: str
    seconds: float
    swap_gap_frames: int
    first_seconds: float
    """Of the same one before, when its archive was not in the cache."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that was to fail."""

    case: str
    status: str
    reason: str
    seconds: float
    frames_lost: int


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """How all of it went; ``model`` answers at the end."""

    deployment: Swap
    failures: tuple[Failure, ...]
    model: str

    @property
    def shortcomings(self) -> list[str]:
        """What was not as promised, in sentences; empty when all was."""
        swap = self.deployment
        found = []
        if (swap.status, swap.swap_gap_frames) != ("SUCCESSFUL", 0) or swap.seconds > _SWAP_S:
            found.append(f"the swap: {swap.status}, {swap.swap_gap_frames} frames lost, {swap.seconds:.2f} s")
        found += [
            f"{each.case}: {each.status}, {each.frames_lost} frames lost, {each.seconds:.2f} s"
            for each in self.failures
            if each.status not in FAILED or each.frames_lost or each.seconds > _FAILURE_S or not each.reason
        ]
        if self.model != DETECTOR:
            found.append(f"{self.model} answers at the end, not {DETECTOR}")
        return found


async def install(jobs: Jobs, kit: Kit) -> Done:
    """The first deployment: the classifier on a device that has nothing."""
    return await jobs.run(kit.document(CLASSIFIER))


async def rehearse(jobs: Jobs, kit: Kit, ear: Ear, say: Say) -> Rehearsal:
    """Swap and fail while frames come; ``say`` hears a line of each."""
    await ear.until(lambda scores: scores.sequences.highest >= _WARM_UP, _SETTLE_S)
    stage = _Stage(jobs, kit, ear, say)
    first, gap = await stage.run("detector", DETECTOR)
    _, back_gap = await stage.run("back to the classifier", CLASSIFIER)
    swap, last_gap = await stage.run("detector, from the cache", DETECTOR)
    failures = []
    for case, version in BAD.items():
        done, lost = await stage.run(case.replace("-", " "), DETECTOR, version)
        failures.append(
            Failure(case=case, status=done.status, reason=done.reason, seconds=done.seconds, frames_lost=lost)
        )
    return Rehearsal(
        deployment=Swap(
            status=swap.status,
            seconds=swap.seconds,
            swap_gap_frames=gap + back_gap + last_gap,
            first_seconds=first.seconds,
        ),
        failures=tuple(failures),
        model=ear.scores.answering,
    )


class _Stage:
    """Runs one deployment after the other and counts what it cost in frames."""

    def __init__(self, jobs: Jobs, kit: Kit, ear: Ear, say: Say) -> None:
        self._jobs = jobs
        self._kit = kit
        self._ear = ear
        self._say = say

    async def run(self, what: str, model: str, version: str = "1.0.0") -> tuple[Done, int]:
        """How it ended, and the frames that were lost or answered twice meanwhile and shortly after."""
        sequences = self._ear.scores.sequences
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
        sequences = self._ear.scores.sequences
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self._ear.until(
                    lambda _: sequences.highest >= upto and not sequences.missing(after, upto), _SETTLE_S
                )
        except TimeoutError:
            upto = sequences.highest
        return sequences.missing(after, upto) + sequences.twice(after, upto)
