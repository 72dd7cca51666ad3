"""Whether a new model agrees with the old one on the same frames, and is about as fast.

Both models answer a frame; the two answers are compared and counted.  After so many frames, or so many seconds, the
share of agreement and the ratio of the median latencies decide.  Answers agree when

- classes: both name the same label first, or both name nothing;
- boxes: every box of either has one of the other's with the same label that covers it (intersection over union of
  at least one half), one to one, so that a box found twice is a disagreement;
- tensors: names and shapes are the same and every number is close.

A frame that the new model fails and the old one answers is a disagreement; one that the old model fails proves nothing
and is not counted.  A verdict of FAIL comes early, as soon as the frames that are left could not change it.
"""

from __future__ import annotations

import base64
import binascii
import math
import statistics
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from agent.results.result import Box, Prediction, Tensor

__all__ = ["Canary", "Decision", "Trial", "Verdict", "agree", "verdict"]

MIN_IOU: Final = 0.5
MAX_BOXES: Final = 200
"""Of more, the surest are compared: pairing costs the square of their number."""
RELATIVE: Final = 1e-2
ABSOLUTE: Final = 1e-3
"""How close two numbers of a tensor are: a converted or requantised model answers a little differently."""
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


def agree(old: Sequence[Prediction | Tensor], new: Sequence[Prediction | Tensor]) -> bool:
    """Whether two answers to one frame say the same; answers of different kinds do not."""
    if any(isinstance(each, Tensor) for each in (*old, *new)):
        return _same_tensors(old, new)
    olds, news = ([each for each in answer if isinstance(each, Prediction)] for answer in (old, new))
    if any(each.box is not None for each in (*olds, *news)):
        return _same_boxes(olds, news)
    return _top(olds) == _top(news)


def _disagreement(canary: Canary, trial: Trial) -> str:
    return (
        f"the new model disagrees with the old one on {trial.differed} of {trial.frames} frames; "
        f"agreement on {canary.agreement:.0%} is wanted"
    )


def _top(predictions: Sequence[Prediction]) -> str | None:
    return max(predictions, key=lambda each: each.score).label if predictions else None


def _same_boxes(old: Sequence[Prediction], new: Sequence[Prediction]) -> bool:
    """Whether the boxes pair up one to one."""
    if len(old) != len(new) or any(each.box is None for each in (*old, *new)):
        return False
    old, new = (sorted(each, key=lambda one: -one.score)[:MAX_BOXES] for each in (old, new))
    fitting = [[index for index, other in enumerate(new) if _covers(each, other)] for each in old]
    partner: dict[int, int] = {}
    return all(_paired(index, fitting, partner, set()) for index in range(len(old)))


def _paired(index: int, fitting: Sequence[Sequence[int]], partner: dict[int, int], tried: set[int]) -> bool:
    """Find a partner for one old box, moving others to their next choice (an augmenting path)."""
    for other in fitting[index]:
        if other not in tried:
            tried.add(other)
            if other not in partner or _paired(partner[other], fitting, partner, tried):
                partner[other] = index
                return True
    return False


def _covers(old: Prediction, new: Prediction) -> bool:
    return old.label == new.label and old.box is not None and new.box is not None and _iou(old.box, new.box) >= MIN_IOU


def _iou(one: Box, other: Box) -> float:
    """Intersection over union; 0 where both are empty."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0.0) * max(height, 0.0)
    union = one.width * one.height + other.width * other.height - common
    return common / union if union > 0 else 0.0


def _same_tensors(old: Sequence[Prediction | Tensor], new: Sequence[Prediction | Tensor]) -> bool:
    olds, news = ({each.name: each for each in answer if isinstance(each, Tensor)} for answer in (old, new))
    if len(olds) != len(old) or len(news) != len(new) or olds.keys() != news.keys():
        return False
    return all(_close(olds[name], news[name]) for name in olds)


_LETTERS: Final = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?",
}  # fmt: skip


def _close(old: Tensor, new: Tensor) -> bool:
    """Whether two tensors have one shape and close numbers; what cannot be read agrees only with itself."""
    if old.shape != new.shape:
        return False
    ones, others = _flat(old), _flat(new)
    if ones is None or others is None:
        return old == new
    if len(ones) != len(others):
        return False
    return all(_near(one, other) for one, other in zip(ones, others, strict=True))


def _near(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _flat(tensor: Tensor) -> Sequence[float] | None:
    """The numbers of a tensor in C order; None where its data is none."""
    if tensor.encoding is None:
        return _numbers(tensor.data)
    letter = _LETTERS.get(tensor.dtype)
    if letter is None or not isinstance(tensor.data, str):
        return None
    try:
        raw = base64.b64decode(tensor.data, validate=True)
        return [number for (number,) in struct.iter_unpack("<" + letter, raw)]
    except (binascii.Error, struct.error):
        return None


def _numbers(data: Any) -> list[float] | None:
    """Nested lists of numbers as one list, in order; nothing here recurses."""
    found: list[float] = []
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        elif isinstance(item, int | float):
            found.append(item)
        else:
            return None
    return found
