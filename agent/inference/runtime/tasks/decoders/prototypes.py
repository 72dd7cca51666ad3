"""Masks by prototypes: behind the scores of a row, how much of each of some planes its mask has.

The planes lie over the network's picture at a quarter of its resolution.  An object's mask is where their sum, weighted
by its coefficients, is above 0, within its box.  ``mask_scale`` says how many points each of a plane's becomes, along
both axes: sums are interpolated between the points, so a finer mask has smoother edges and takes more bytes.
"""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Network, refuse
from agent.inference.runtime.tasks.decoders.end2end import End2End
from agent.inference.runtime.tasks.decoders.overlay import over_picture, overlaid
from agent.inference.runtime.tasks.decoders.rows import RowHead, Rows
from agent.inference.runtime.tasks.decoders.yolo import YoloV5, YoloV8

__all__ = ["End2EndSeg", "YoloV5Seg", "YoloV8Seg"]

_PLANES = 4
"""Axes of the prototypes."""
_MOST = 256


class _Masked(RowHead):
    """Option ``mask_scale``."""

    said = "segment"

    @classmethod
    def trailing(cls, network: Network) -> Optional[int]:
        """As many as there are prototypes."""
        place = _place(network)
        return None if place is None else _count(network, network.outputs[place].shape)

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        place = _place(network)
        if place is None:
            refuse(self, network)
        self._planes = place
        self._axis = _channels(network, network.outputs[place].shape)
        self._scale = options.integer("mask_scale", 4, 1, 8)

    def finished(self, rows: Rows, outputs: Sequence[np.ndarray], geometry: Geometry) -> Candidates:
        """The masks, to be made of those that remain."""
        del geometry
        planes = self._prototypes(outputs[self._planes])

        def mask(weights: np.ndarray, box: np.ndarray, geometry: Geometry) -> np.ndarray:
            placed = boxes.to_frame(box[None], geometry)[0].tolist()
            axes = over_picture(planes.shape[1:], geometry, self._scale)
            return overlaid(lambda y, x: np.tensordot(weights, planes[:, y, x], axes=1), axes, placed)

        def masks(chosen: np.ndarray, geometry: Geometry) -> List[np.ndarray]:
            return [mask(rows.rest[each], rows.boxes[each], geometry) for each in chosen.tolist()]

        return Candidates(rows.boxes, rows.scores, rows.label_ids, masks=masks)

    def _prototypes(self, output: np.ndarray) -> np.ndarray:
        """The planes as [C, H, W]."""
        given = np.asarray(output, dtype=np.float32)[0]
        planes = given if self._axis == 1 else given.transpose(2, 0, 1)
        if planes.shape[0] != self._trailing:
            refuse(self, list(output.shape))
        return finite(planes)


class YoloV8Seg(_Masked, YoloV8):
    """Class scores, then the coefficients."""

    name = "yolov8-seg"
    expects = "outputs [1,4+C+M,N] of boxes (centre, size), C class scores and M coefficients, and [1,M,H,W] prototypes"


class YoloV5Seg(_Masked, YoloV5):
    """Objectness and class scores, then the coefficients."""

    name = "yolov5-seg"
    expects = (
        "outputs [1,N,5+C+M] of boxes (centre, size), objectness, C class scores and M coefficients, "
        "and [1,M,H,W] prototypes"
    )


class End2EndSeg(_Masked, End2End):
    """Score and class, then the coefficients."""

    name = "end2end-seg"
    expects = (
        "outputs [1,N,6+M] of boxes (corners), scores, classes and M coefficients after suppression, "
        "and [1,M,H,W] prototypes"
    )


def _place(network: Network) -> Optional[int]:
    """Which output holds the prototypes: the only one of four axes beside the rows."""
    places = [n for n, info in enumerate(network.outputs) if len(info.shape) == _PLANES]
    return places[0] if len(places) == 1 and len(network.outputs) == 2 else None  # noqa: PLR2004 - rows, prototypes


def _count(network: Network, shape: Sequence[int]) -> Optional[int]:
    """How many prototypes there are."""
    count = shape[_channels(network, shape)]
    return count if 1 < count <= _MOST else None


def _channels(network: Network, shape: Sequence[int]) -> int:
    """Which axis of [1, C, H, W] or [1, H, W, C] counts the planes: the rest has the picture's proportions."""
    height, width = network.size or (1, 1)
    first, last = (high > 0 and wide > 0 and high * width == wide * height for high, wide in (shape[2:], shape[1:3]))
    if first != last:
        return 1 if first else 3
    is_last = network.inputs[0].shape[-1] in (1, 3)
    return 3 if shape[3] > 0 and (is_last or shape[1] < 0) else 1
