"""Outputs with numbers for each pixel, told by their shapes: [1,H,W], [1,C,H,W] or [1,H,W,C]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Network, TensorInfo

__all__ = ["IMAGENET", "Dense", "find", "words"]

IMAGENET: Mapping[str, Any] = {"color": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
"""The input of networks whose first layers were trained on ImageNet in PyTorch."""

_PLANE, _PLANES = 3, 4
_MOST_CLASSES = 1024
_LEAST_SIDE = 8
_PROPORTION = 0.1
_SMALLEST = 8
"""How many times smaller than the picture planes may be."""


@dataclass(frozen=True)
class Dense:
    """Numbers for each pixel in one of a network's outputs."""

    place: int
    axis: Optional[int]
    """Of the classes; None where there is none."""
    classes: int
    size: Tuple[int, int]
    """(height, width); -1 where they vary."""
    is_whole: bool
    """Whether the numbers are whole by their type."""

    def read(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """[C, H, W], or [H, W] of one plane: a view."""
        values = np.asarray(outputs[self.place])
        rows = values if self.axis is None else np.moveaxis(values, self.axis, 1)
        return rows.reshape(rows.shape[-2:]) if self.classes == 1 else rows[0]

    def is_as_large(self, size: Optional[Tuple[int, int]]) -> bool:
        """Whether there is a number for each pixel of the input; also where either size is open."""
        return size is None or min(self.size) < 0 or self.size == size


def find(network: Network) -> Optional[Dense]:
    """The first output, if it and all others have numbers for each pixel, and as many."""
    found = [_dense(place, info, network) for place, info in enumerate(network.outputs)]
    first = found[0] if found and len(network.inputs) == 1 else None
    if first is None or any(one is None or one.classes != first.classes for one in found):
        return None
    return first


def words(network: Network) -> str:
    """What the file calls its outputs and itself, in small letters."""
    told = [info.name for info in network.outputs]
    told += [str(network.facts.get(key, "")) for key in ("task", "name", "description")]
    return " ".join(told).lower()


def _dense(place: int, info: TensorInfo, network: Network) -> Optional[Dense]:
    shape, is_whole = info.shape, info.kind in ("i", "u", "b") and info.scale is None
    if len(shape) not in (_PLANE, _PLANES) or shape[0] not in (1, -1):
        return None
    if len(shape) == _PLANE:
        return Dense(place, None, 1, (shape[1], shape[2]), is_whole) if _fits(shape[1:], network.size) else None
    axes = [axis for axis in (1, 3) if 1 <= shape[axis] <= _MOST_CLASSES and _fits(_sides(shape, axis), network.size)]
    if not axes:
        return None
    axis = min(axes, key=lambda axis: (shape[axis] != 1, axis != _colours(network)))
    return Dense(place, axis, shape[axis], _sides(shape, axis), is_whole)


def _sides(shape: Sequence[int], axis: int) -> Tuple[int, int]:
    return (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])


def _fits(sides: Sequence[int], size: Optional[Tuple[int, int]]) -> bool:
    """Whether planes of these sides cover a picture of that size, at most some times smaller, in proportion."""
    height, width = sides
    if 0 < height < _LEAST_SIDE or 0 < width < _LEAST_SIDE:
        return False
    if size is None or min(height, width) < 0:
        return True
    down, across = size[0] / height, size[1] / width
    return 1 <= down <= _SMALLEST and 1 <= across <= _SMALLEST and abs(down - across) < _PROPORTION * down


def _colours(network: Network) -> int:
    """The axis on which the network's own picture has its colours."""
    shape = network.inputs[0].shape
    return 1 if len(shape) == _PLANES and shape[1] in (1, 3) else 3
