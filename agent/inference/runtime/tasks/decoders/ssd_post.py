"""Detectors that end in TensorFlow's post-processing: boxes, classes, scores and how many count.

============================  ==========================================  =====================================
where from                    outputs                                     classes
============================  ==========================================  =====================================
TFLite's operation            four, shuffled and renamed by exporters     from the first on
the Object Detection API,     ``detection_boxes``, ``detection_classes``  1 is the first, 0 the background
as ONNX or TensorFlow has it  ``detection_scores``, ``num_detections``,
                              perhaps ``detection_masks``, and more
============================  ==========================================  =====================================

Boxes are top, left, bottom and right in fractions.  Boxes and the count are known by their shapes; classes and scores
have the same shape and are known by their names, and failing that by their numbers: scores end at 1, classes are whole.
Masks lie over their boxes and are where they are above one half.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.labels import BACKGROUND
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_boxes, are_swapped, refuse
from agent.inference.runtime.tasks.decoders.overlay import over_boxes

__all__ = ["SsdPost"]

_ROLES = 4
_PAIR = 2  # classes and scores

# Fragments of names, lower case.  The numbered ones are the operation's own output order, and the order in
# which TensorFlow 2 converts the signature.
_CLASSES = ("class", "categor", "label", "detection_postprocess:1", "statefulpartitionedcall:2")
_SCORES = ("score", "prob", "confid", "detection_postprocess:2", "statefulpartitionedcall:1")

_API = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
_MASKS = "detection_masks"
_TENSORFLOW = ("detection_", "tflite", "statefulpartitionedcall", "identity")
_OPEN: Mapping[str, Any] = {"resize": "longest", "width": 640, "height": 640, "upscale": False}
"""The API's networks bring any picture to their own size."""


class SsdPost(Decoder):
    """Option ``background``: the labels' first name stands for "nothing", which TFLite's operation does not count."""

    name = "ssd-post"
    expects = "boxes [1,N,4], classes [1,N], scores [1,N] and count [1], in any order"
    feed: Mapping[str, Any] = {"color": "RGB", "mean": [127.5], "std": [127.5]}
    nms = "none"
    sparse = True

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """The API's names; or four outputs that are boxes, a count and two of one length, or are named so."""
        outputs = network.outputs
        if _api(outputs) is not None:
            claim = cls.fits("its outputs are called detection_boxes, detection_classes and detection_scores", NAMED)
            return claim if network.size else Claim(claim.strength, claim.why, claim.options, {**cls.feed, **_OPEN})
        if len(outputs) != _ROLES or (_is_planar(network) and not any(_is_tensorflow(info.name) for info in outputs)):
            return None
        unknown = all(info.shape in ((), (1,)) or -1 in info.shape for info in outputs)
        if _by_shape(outputs) or (unknown and _named(outputs) is not None):
            strength = NAMED if _named(outputs) is not None else FITS
            return cls.fits("its four outputs are boxes, classes, scores and a count", strength)
        return None

    def __init__(self, network: Network, options: Options) -> None:
        places = _api(network.outputs)
        if places is None and len(network.outputs) != _ROLES:
            refuse(self, network)
        background = options.flag("background")
        named = network.labels.names.get(0, "").lower() in BACKGROUND
        if background is None:
            background = named
        self._first = int(background)
        if places is not None:  # classes count the background, and labels may not
            self._first = 0 if background or 0 not in network.labels.names else -1
        self._places = places or list(range(_ROLES))
        chosen = [network.outputs[place] for place in self._places]
        self._named = _named(chosen)
        masks = [n for n, info in enumerate(network.outputs) if _plain(info.name) == _MASKS]
        self._masks = masks[0] if masks else None

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The first ``count`` boxes that reach the threshold."""
        del geometry
        given = [np.asarray(outputs[place], dtype=np.float32) for place in self._places]
        boxes, classes, scores = self._sort(given)
        rows = np.flatnonzero(finite(scores) >= threshold)
        corners, ids = finite(boxes[rows])[:, [1, 0, 3, 2]], finite(classes[rows]).round().astype(np.int64)
        masks = None if self._masks is None else over_boxes(np.asarray(outputs[self._masks])[0][rows], corners)
        return Candidates(corners, scores[rows], ids + self._first, masks=masks)

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


def _is_planar(network: Network) -> bool:
    """Whether the picture's colours come first, as they never do in TensorFlow's own exports."""
    return network.inputs[0].shape[-3:-2] in ((1,), (3,))


def _is_tensorflow(name: str) -> bool:
    return any(word in name.lower() for word in _TENSORFLOW)


def _plain(name: str) -> str:
    """A tensor's name without the number of its operation's output."""
    return name.lower().partition(":")[0]


def _api(outputs: Sequence[TensorInfo]) -> Optional[List[int]]:
    """Where boxes, classes, scores and the count are by the API's names; None where one is missing."""
    names = [_plain(info.name) for info in outputs]
    return [names.index(word) for word in _API] if all(names.count(word) == 1 for word in _API) else None
