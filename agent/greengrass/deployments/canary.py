"""Whether a new model agrees with the old one on the same frames, and is about as fast.

Both models answer a frame; the two answers are compared and counted.  After so many frames, or so many seconds, the
share of agreement and the ratio of the median latencies decide.  When two answers agree is told in
``agent.results.comparison``.

A frame that the new model fails and the old one answers is a disagreement; one that the old model fails proves nothing
and is not counted.  A verdict of FAIL comes early, as soon as the frames that are left could not change it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Final

from msgspec import Meta, Struct

__all__ = ["Canary", "Decision", "Trial", "Verdict", "verdict"]

MAX_LATENCIES: Final = 1024
"""The last ones count, so that a trial of hours stays small."""


class Canary(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a new model is tried before it is trusted: for so many ``frames``, or for so many ``seconds``."""

    frames: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    seconds: Annotated[float, Meta(gt=0, le=7 * 86400)] | None = None
    agreement: Annotated[float, Meta(ge=0, le=1)] = 0.9
    """The share of frames on which both models must agree."""
    latency_ratio: Annotated[float, Meta(gt=0)] = 2.0
    """How many times the old model's median latency the new one's may be."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was counted so far; latencies are milliseconds, of the frames that both models answered."""

    agreed: int = 0
    differed: int = 0
    old_ms: tuple[float, ...] = ()
    new_ms: tuple[float, ...] = ()

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

    def compared(self, *, same: bool, old_ms: float, new_ms: float) -> Trial:
        """With a frame that both models answered."""
        counted = self._counted(same=same)
        old, new = (*self.old_ms, old_ms)[-MAX_LATENCIES:], (*self.new_ms, new_ms)[-MAX_LATENCIES:]
        return replace(counted, old_ms=old, new_ms=new)

    def failed(self) -> Trial:
        """With a frame that the old model answered and the new one did not."""
        return self._counted(same=False)

    def _counted(self, *, same: bool) -> Trial:
        return replace(self, agreed=self.agreed + same, differed=self.differed + (not same))


class Verdict(Enum):
    """What a trial says of the new model."""

    PASS = "pass"  # noqa: S105 a verdict
    FAIL = "fail"
    MORE = "more"
    """It has seen too few frames."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and of a FAIL the reason: a sentence with the numbers."""

    verdict: Verdict
    reason: str = ""


def verdict(canary: Canary, trial: Trial, *, elapsed_s: float) -> Decision:
    """The decision after ``elapsed_s`` seconds of trial; time without any frame is no proof, and asks for more."""
    if canary.frames is not None and (canary.frames - trial.differed) / canary.frames < canary.agreement:
        return Decision(Verdict.FAIL, _disagreement(canary, trial))
    enough = trial.frames >= canary.frames if canary.frames is not None else elapsed_s >= (canary.seconds or 0)
    if not enough or not trial.frames:
        return Decision(Verdict.MORE)
    if trial.agreement < canary.agreement:
        return Decision(Verdict.FAIL, _disagreement(canary, trial))
    if trial.latency_ratio > canary.latency_ratio:
        return Decision(
            Verdict.FAIL,
            f"the new model takes {trial.latency_ratio:.2f} times as long as the old one over {trial.frames} frames; "
            f"{canary.latency_ratio:g} times is allowed",
        )
    return Decision(Verdict.PASS)


def _disagreement(canary: Canary, trial: Trial) -> str:
    return (
        f"the new model disagrees with the old one on {trial.differed} of {trial.frames} frames; "
        f"agreement on {canary.agreement:.0%} is wanted"
    )
