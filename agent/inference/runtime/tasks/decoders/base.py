"""What a detection head must do, and what the heads have in common.

A decoder is asked three things: whether a network's outputs look like its own (``recognises``), to read
its options (the constructor), and to turn the outputs of one run into candidates.  It drops what is below
the threshold first, while the numbers are still raw, so that all that follows touches a handful of boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Collection, NoReturn, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Geometry, Labels, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, logit, sigmoid

__all__ = [
    "CORNERS",
    "Decoder",
    "Network",
    "are_boxes",
    "are_rows",
    "are_swapped",
    "find",
    "in_fractions",
    "refuse",
    "strongest",
]

CORNERS = 4
"""Numbers of a box, whatever they are: corners, or centre and size."""
_ROWS = 3
_PICTURES = 4

# What is found in a picture reaches a little past its edge at most in fractions, and many pixels far.
_LARGEST_FRACTION = 2.0


@dataclass(frozen=True)
class Network:
    """What is known of a network before it runs."""

    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    labels: Labels

    @property
    def size(self) -> Optional[Tuple[int, int]]:
        """(height, width) of the input picture, NHWC or NCHW; None where the file leaves it open."""
        shape = self.inputs[0].shape if self.inputs else ()
        if len(shape) != _PICTURES:
            return None
        height, width = shape[2:] if shape[1] in (1, 3) else shape[1:3]
        return (height, width) if min(height, width) > 0 else None

    @property
    def label_count(self) -> int:
        """One more than the highest number that has a name; 0 without labels."""
        return max(self.labels.names, default=-1) + 1

    def __str__(self) -> str:
        return ", ".join(f"{info.name} {list(info.shape)}" for info in self.outputs)


class Decoder(ABC):
    """One family of detection heads."""

    name: str = ""
    expects: str = ""
    """The outputs it reads, for a person."""
    threshold: float = 0.3
    iou: float = 0.5
    nms: str = "class"

    @classmethod
    @abstractmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """Whether ``decoder = "auto"`` may choose this one; asks ``options`` only whether a key is there."""

    @abstractmethod
    def __init__(self, network: Network, options: Options) -> None:
        """Read the options and check the outputs; raises ``ModelError``."""

    @abstractmethod
    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The boxes that reach ``threshold``, in any order, overlapping as the network gave them."""


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


def in_fractions(boxes: np.ndarray, normalized: Optional[bool], geometry: Geometry) -> np.ndarray:
    """Corners [N, 4] in fractions of the network's picture; ``normalized`` left open is seen from the largest one."""
    if normalized is None:
        normalized = bool(boxes.max(initial=0.0) <= _LARGEST_FRACTION)
    return boxes if normalized else boxes / np.array([geometry.network_width, geometry.network_height] * 2, np.float32)
