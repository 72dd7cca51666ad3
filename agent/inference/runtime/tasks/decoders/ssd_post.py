"""Detectors that end in TFLite's post-processing operation: boxes, classes, scores and how many count.

Exporters shuffle the four outputs and rename them.  Boxes and the count are known by their shapes; classes
and scores have the same shape and are known by their names, and failing that by their numbers: scores
end at 1, classes are whole.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.labels import BACKGROUND
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_boxes, are_swapped, refuse

__all__ = ["SsdPost"]

_ROLES = 4
_PAIR = 2  # classes and scores

# Fragments of names, lower case.  The numbered ones are the operation's own output order, and the order in
# which TensorFlow 2 converts the signature.
_CLASSES = ("class", "categor", "label", "detection_postprocess:1", "statefulpartitionedcall:2")
_SCORES = ("score", "prob", "confid", "detection_postprocess:2", "statefulpartitionedcall:1")


class SsdPost(Decoder):
    """Option ``background``: the labels' first name stands for "nothing", which the operation does not count."""

    name = "ssd-post"
    expects = "boxes [1,N,4], classes [1,N], scores [1,N] and count [1], in any order"
    nms = "none"

    @classmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """Four outputs that are boxes, a count and two of one length; or of shapes unknown, named so."""
        del options
        if len(network.outputs) != _ROLES:
            return False
        unknown = all(info.shape in ((), (1,)) or -1 in info.shape for info in network.outputs)
        return _by_shape(network.outputs) or (unknown and _named(network.outputs) is not None)

    def __init__(self, network: Network, options: Options) -> None:
        if len(network.outputs) != _ROLES:
            refuse(self, network)
        background = options.flag("background")
        if background is None:
            background = network.labels.names.get(0, "").lower() in BACKGROUND
        self._first = int(background)
        self._named = _named(network.outputs)

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The first ``count`` boxes that reach the threshold."""
        del geometry
        boxes, classes, scores = self._sort([np.asarray(output, dtype=np.float32) for output in outputs])
        rows = np.flatnonzero(finite(scores) >= threshold)
        corners, ids = finite(boxes[rows])[:, [1, 0, 3, 2]], finite(classes[rows])
        return Candidates(corners, scores[rows], ids.round().astype(np.int64) + self._first)

    def _sort(self, outputs: List[np.ndarray]) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes [count, 4], classes [count] and scores [count]."""
        shapes = [list(output.shape) for output in outputs]
        boxes = [output for output in outputs if are_boxes(output.shape)]
        length = boxes[0].shape[1] if boxes else 0
        pair = [n for n, shape in enumerate(shapes) if shape == [1, length]]
        counts = [output for n, output in enumerate(outputs) if output.size == 1 and n not in pair]
        if len(boxes) != 1 or len(pair) + len(counts) != len(outputs) - 1 or len(counts) != 1:
            refuse(self, ", ".join(map(str, shapes)))
        count = int(np.clip(finite(counts[0].reshape(-1))[0], 0, length))
        named = self._named if self._named and set(self._named) == set(pair) else None
        classes, scores = [outputs[n][0, :count] for n in named or pair]
        if named is None and are_swapped(classes, scores):
            classes, scores = scores, classes
        return boxes[0][0, :count], classes, scores


def _by_shape(outputs: Sequence[TensorInfo]) -> bool:
    boxes = [info.shape for info in outputs if are_boxes(info.shape)]
    return len(boxes) == 1 and [tuple(info.shape) for info in outputs].count(tuple(boxes[0][:2])) == _PAIR


def _named(outputs: Sequence[TensorInfo]) -> Optional[Tuple[int, int]]:
    """(classes, scores) where the names say both."""
    names = [info.name.lower() for info in outputs]
    scores = [n for n, name in enumerate(names) if any(word in name for word in _SCORES)]
    classes = [n for n, name in enumerate(names) if n not in scores and any(word in name for word in _CLASSES)]
    return (classes[0], scores[0]) if len(classes) == len(scores) == 1 else None
