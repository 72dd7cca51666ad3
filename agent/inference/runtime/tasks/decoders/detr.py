"""Detection transformers: a fixed number of queries, each with class scores and one box, none to be suppressed.

==========  ==========================================  =====================================================
``detr``    class logits [1, N, C] and boxes [1, N, 4]  softmax, the last class "no object": DETR, YOLOS;
            (centre, size, in fractions)                sigmoid, every class one: RT-DETR, D-FINE, RF-DETR,
                                                        deformable and conditional DETR
``rtdetr``  rows [1, N, 4+C] of a box and scores        RT-DETR as Ultralytics exports it
==========  ==========================================  =====================================================

Which activation it is follows from the labels: one logit more than there are is softmax's.  Without labels it follows
from what is usual, and failing that from the numbers of each run: where softmax has a class for no object, most queries
are of it.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, SAID, Claim, Geometry
from agent.inference.runtime.boxes import Candidates, Masks, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, softmax
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_boxes, are_rows, find, refuse, strongest
from agent.inference.runtime.tasks.decoders.overlay import over_picture, overlaid
from agent.inference.runtime.tasks.decoders.rows import COLORS, RowHead, Rows, grids, row_axes

__all__ = ["Detr", "RtDetr"]

_MOST_QUERIES = 900
_PLANES = 4
_WHOLE = (0.0, 0.0, 1.0, 1.0)
_LEADING = 4
_USUAL_QUERIES = 300

_SOFTMAX, _SIGMOID = (92, 251), (80, 91, 365, 366)
"""Logits of COCO's and other data sets' classes, with one for no object and without."""

_IMAGENET: Mapping[str, Any] = {"color": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


class Detr(Decoder):
    """Option ``activation`` (auto, softmax, sigmoid)."""

    name = "detr"
    expects = "class logits [1,N,C] and boxes [1,N,4] (centre, size) of N queries"
    threshold = 0.5
    nms = "none"

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Boxes and logits of a moderate number of queries; further outputs only beside logits named so."""
        places = _outputs(network)
        if places is None or "anchors" in network.options:
            return None
        names = [network.outputs[place].name.lower() for place in places]
        named = "logit" in names[1] or _is_rf(network)
        if (not named and network.outputs[2:]) or network.outputs[places[0]].shape[1] > _MOST_QUERIES:
            return None
        return Claim(
            NAMED if named else FITS,
            f"its outputs are called {names[0]} and {names[1]}" if named else "its outputs are boxes and a few queries",
            {"decoder": cls.name},
            _fed(network, _told(network, places[1])),
        )

    def __init__(self, network: Network, options: Options) -> None:
        places = _outputs(network)
        if places is None:
            refuse(self, network)
        self._boxes, self._logits = places
        activation = options.choice("activation", "auto", ("auto", "softmax", "sigmoid"))
        self._activation = _told(network, self._logits) if activation == "auto" else activation
        if self._activation == "softmax" and network.outputs[self._logits].shape[2] == 1:
            refuse(self, f"{network}, of which nothing remains without the last class")
        self._masks = find(network.outputs, lambda shape: len(shape) == _PLANES, ("mask",), places)

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, labels: int) -> str:
        """Logits that are probabilities already, or boxes that are no fractions."""
        logits = np.asarray(outputs[self._logits], dtype=np.float32)
        if logits.size and logits.min() >= 0 and logits.max() <= 1:
            return "its logits are probabilities already"
        return super().doubt(outputs, geometry, labels)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The queries that have an object."""
        del geometry
        logits = np.asarray(outputs[self._logits], dtype=np.float32)[0]
        if (self._activation or _seen(logits)) == "softmax":
            rows, scores, columns = strongest(softmax(logits)[:, :-1], threshold)
        else:
            rows, scores, columns = strongest(logits, threshold, "sigmoid")
        boxes = finite(np.asarray(outputs[self._boxes], dtype=np.float32)[0][rows])
        masks = None if self._masks is None else _masks(np.asarray(outputs[self._masks])[0], rows)
        return Candidates(from_centres(*boxes.T), scores, columns, masks=masks)


class RtDetr(RowHead):
    """A box in fractions and class scores in each row."""

    name = "rtdetr"
    expects = "one output [1,N,4+C] of boxes (centre, size, in fractions) and C class scores of N queries"
    feed = COLORS
    nms = "none"
    threshold = 0.25

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Fewer rows than any grid has, and as many scores as labels."""
        axes, strength = row_axes(network), cls.strength(network)
        if axes is None or not strength or not 0 < axes[0] <= _MOST_QUERIES:
            return None
        rows, classes = axes[0], axes[1] - _LEADING
        is_grid = network.size is not None and rows in grids(network.size, 1)
        if classes < 1 or is_grid or network.label_count not in (0, classes):
            return None
        if strength < SAID and not network.label_count and (rows != _USUAL_QUERIES or classes not in _SIGMOID):
            return None
        return cls.claimed(network, f"its output has {rows} rows of {_LEADING} + {classes} numbers")

    def __init__(self, network: Network, options: Options) -> None:
        super().__init__(network, options)
        axes = row_axes(network)
        if axes is None or 0 < axes[1] <= _LEADING:
            refuse(self, network)

    def rows(self, output: np.ndarray, geometry: Geometry, threshold: float) -> Rows:
        """The queries whose best class reaches the threshold."""
        del geometry
        rows: np.ndarray = output[0]
        kept, scores, columns = strongest(rows[:, _LEADING:], threshold)
        return Rows(from_centres(*finite(rows[kept, :_LEADING]).T), scores, columns, rows[kept, :0], (1, 1))


def _outputs(network: Network) -> Optional[Tuple[int, int]]:
    """(boxes, logits); None where they cannot be distinguished."""
    boxes = find(network.outputs, are_boxes, ("box", "dets"))
    if boxes is None:
        return None
    rows = network.outputs[boxes].shape[:2]
    words = ("logit", "class", "label")
    logits = find(network.outputs, lambda shape: are_rows(shape) and shape[:2] == rows, words, (boxes,))
    return None if logits is None else (boxes, logits)


def _is_rf(network: Network) -> bool:
    """Whether the outputs are called as RF-DETR's are."""
    return {"dets", "labels"} <= {info.name for info in network.outputs}


def _told(network: Network, logits: int) -> Optional[str]:
    """The activation, as far as it is known before a run."""
    classes = network.outputs[logits].shape[2]
    if _is_rf(network) or network.label_count == classes:
        return "sigmoid"
    if network.label_count == classes - 1 > 0:
        return "softmax"
    return "softmax" if classes in _SOFTMAX else "sigmoid" if classes in _SIGMOID else None


def _seen(logits: np.ndarray) -> str:
    """The activation as the numbers have it."""
    last = logits.shape[1] - 1
    return "softmax" if last and (logits.argmax(axis=1) == last).mean() > 0.5 else "sigmoid"  # noqa: PLR2004 - most


def _fed(network: Network, activation: Optional[str]) -> Mapping[str, Any]:
    """RT-DETR and D-FINE are stretched and read colours from 0 to 1; the others read ImageNet's."""
    if activation == "sigmoid" and not _is_rf(network):
        return COLORS if network.size else {**COLORS, "width": 640, "height": 640}
    if network.size:
        return _IMAGENET
    if _is_rf(network):
        return {**_IMAGENET, "width": 560, "height": 560}
    return {**_IMAGENET, "resize": "shortest", "width": 800, "height": 800, "max_side": 1333}


def _masks(planes: np.ndarray, rows: np.ndarray) -> Masks:
    """The masks of the queries: where their planes over the picture are above 0."""

    def mask(plane: np.ndarray, geometry: Geometry) -> np.ndarray:
        scale = geometry.network_width / plane.shape[1]
        return overlaid(lambda y, x: plane[y, x], over_picture(plane.shape, geometry, min(scale, 4.0)), _WHOLE)

    def masks(chosen: np.ndarray, geometry: Geometry) -> List[np.ndarray]:
        return [mask(planes[rows[each]], geometry) for each in chosen.tolist()]

    return masks
