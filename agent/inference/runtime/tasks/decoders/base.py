"""What a detection head must do, and what the heads have in common.

A decoder is asked four things: what speaks for it before the network runs (``claim``), to read its options (the
constructor), to turn the outputs of one run into candidates, and what in them speaks against it (``doubt``).
It drops what is below the threshold first, while the numbers are still raw, so that all that follows touches a handful
of boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, Collection, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, Claim, Geometry, Network, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import LARGEST_SCORE, finite, logit, sigmoid

__all__ = [
    "CORNERS",
    "Decoder",
    "Network",
    "are_boxes",
    "are_rows",
    "are_swapped",
    "find",
    "in_fractions",
    "is_in_fractions",
    "refuse",
    "strongest",
]

CORNERS = 4
"""Numbers of a box, whatever they are: corners, or centre and size."""
_ROWS = 3

_MARGIN = 0.25
_MOST_INSIDE = 0.8

# What is found in a picture reaches a little past its edge at most in fractions, and many pixels far.
_LARGEST_FRACTION = 2.0


class Decoder(ABC):
    """One family of detection heads."""

    name: str = ""
    expects: str = ""
    """The outputs it reads, for a person."""
    threshold: float = 0.3
    iou: float = 0.5
    nms: str = "class"

    label_names: Sequence[str] = ()
    """Of its classes, where a model of the family brings none."""
    keypoint_names: Sequence[str] = ()
    """Of the points that it finds in each object."""
    feed: Mapping[str, Any] = {}
    """The manifest's ``[input]`` as the family is usually fed."""
    sparse: bool = False
    """Whether a picture without objects leaves nothing, whatever the threshold."""

    @classmethod
    @abstractmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """What speaks for this head; None where nothing does."""

    @abstractmethod
    def __init__(self, network: Network, options: Options) -> None:
        """Read the options and check the outputs; raises ``ModelError``."""

    @abstractmethod
    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The boxes that reach ``threshold``, in any order, overlapping as the network gave them."""

    @classmethod
    def fits(cls, why: str, strength: int = FITS, **options: Any) -> Claim:
        """This head's claim, with the input that its family is fed."""
        return Claim(strength, why, {"decoder": cls.name, **options}, cls.feed)

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """What in the outputs of a run speaks against this head, in a clause; empty where they bear it out."""
        return _doubt(self.candidates(outputs, geometry, 0.0), labels, self.sparse)


def _doubt(candidates: Candidates, labels: int, sparse: bool) -> str:
    scores, ids, boxes = candidates.scores, candidates.label_ids, candidates.boxes
    if not len(scores):
        return "" if sparse else "no score reaches 0"
    if scores.max() > LARGEST_SCORE:
        return f"a score is {scores.max():.4g}, and none is above 1"
    if labels and ids.max() >= labels:
        return f"class {ids.max()} is beyond its {labels} labels"
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres >= -_MARGIN) & (centres <= 1 + _MARGIN)).all(axis=1).mean()
    return f"{1 - inside:.0%} of the boxes lie outside the picture" if inside < _MOST_INSIDE else ""


def are_rows(shape: Sequence[int]) -> bool:
    """Whether a tensor is [1, A, B]: the rows of one picture."""
    return len(shape) == _ROWS and shape[0] in (1, -1)


def are_boxes(shape: Sequence[int]) -> bool:
    """Whether a tensor is [1, N, 4]."""
    return are_rows(shape) and shape[-1] == CORNERS


def find(
    outputs: Sequence[TensorInfo],
    fits: Callable[[Sequence[int]], bool],
    words: Collection[str],
    without: Collection[int] = (),
) -> Optional[int]:
    """The output whose shape fits; where several do, the one whose name holds one of ``words``; None if not one."""
    fitting = [n for n, info in enumerate(outputs) if n not in without and fits(info.shape)]
    if len(fitting) > 1:
        fitting = [n for n in fitting if any(word in outputs[n].name.lower() for word in words)]
    return fitting[0] if len(fitting) == 1 else None


def refuse(decoder: Decoder, saw: object) -> NoReturn:
    """Say what the decoder reads and what it saw instead."""
    raise ModelError(
        "outputs-not-recognised",
        f"decoder {decoder.name} reads {decoder.expects}; the network has {saw}",
        hint="choose another options.decoder, or export the model with these outputs",
    )


def strongest(scores: np.ndarray, threshold: float, activation: str = "none") -> Tuple[np.ndarray, ...]:
    """(rows, scores, columns) of the best column of each row of [N, C] that reaches ``threshold``.

    ``sigmoid`` is applied to the survivors alone: it keeps the order, so the threshold moves instead.
    """
    # A NaN anywhere in a row is the row's maximum, so this one check sees them all.
    best = finite(scores.max(axis=1))
    rows = np.flatnonzero(best >= (logit(threshold) if activation == "sigmoid" else threshold))
    reached = best[rows]
    return rows, sigmoid(reached) if activation == "sigmoid" else reached, scores[rows].argmax(axis=1)


def are_swapped(classes: np.ndarray, scores: np.ndarray) -> bool:
    """Whether the numbers say that the two are the other way round: scores end at 1, classes are whole."""
    if max(classes.max(initial=0.0), scores.max(initial=0.0)) > 1:
        return bool(scores.max(initial=0.0) > classes.max(initial=0.0))
    return bool((scores == scores.round()).all() and (classes != classes.round()).any())


def is_in_fractions(boxes: np.ndarray, normalized: Optional[bool]) -> bool:
    """Whether corners [N, 4] are fractions and no pixels; ``normalized`` left open is seen from most of them.

    What is hardly an object may lie far outside, and unused rows are zero.
    """
    if normalized is not None:
        return normalized
    largest = boxes.max(axis=1, initial=0.0)
    used = largest > 0
    return bool((largest[used] <= _LARGEST_FRACTION).sum() * 2 >= used.sum())


def in_fractions(boxes: np.ndarray, normalized: Optional[bool], geometry: Geometry) -> np.ndarray:
    """Corners [N, 4] in fractions of the network's picture."""
    if is_in_fractions(boxes, normalized):
        return boxes
    return boxes / np.array([geometry.network_width, geometry.network_height] * 2, np.float32)
