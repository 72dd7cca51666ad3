"""Object detection: whatever the network's head, boxes in fractions of the frame.

::

    outputs → decoder: candidates above the threshold → frame's coordinates, clipped → suppression → best first
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple, Type

import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import Geometry, Labels, Prediction, Task, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.decoders.base import Decoder, Network
from agent.inference.runtime.tasks.decoders.detr import Detr
from agent.inference.runtime.tasks.decoders.end2end import End2End
from agent.inference.runtime.tasks.decoders.gluoncv import GluonCV
from agent.inference.runtime.tasks.decoders.ssd_post import SsdPost
from agent.inference.runtime.tasks.decoders.ssd_raw import SsdRaw
from agent.inference.runtime.tasks.decoders.yolo import YoloV5, YoloV8
from agent.inference.runtime.tasks.decoders.yolox import YoloX

__all__ = ["DECODERS", "ObjectDetection"]

DECODERS: Tuple[Type[Decoder], ...] = (
    SsdPost,
    GluonCV,
    SsdRaw,
    Detr,
    YoloV8,
    YoloV5,
    YoloX,
    End2End,
)
"""Every head, in the order in which ``decoder = "auto"`` asks them; the first that recognises its own is taken."""


class ObjectDetection(Task):
    """The objects of a frame.

    Options: ``decoder``, ``threshold``, ``nms``, ``iou``, ``top_k`` (candidates that enter the suppression),
    ``max_detections``, and the decoder's own.
    """

    name = "object-detection"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        read = Options(options)
        network = Network(inputs, outputs, labels)
        known = [decoder.name for decoder in DECODERS]
        wanted = read.choice("decoder", "auto", ["auto", *known])
        kind = _recognise(network, read) if wanted == "auto" else DECODERS[known.index(wanted)]
        self._labels = labels
        self._decoder = kind(network, read)
        self._threshold = read.number("threshold", kind.threshold, 0.0, 1.0)
        self._nms = read.choice("nms", kind.nms, boxes.NMS)
        self._iou = read.number("iou", kind.iou, 0.0, 1.0)
        self._top_k = read.integer("top_k", 1000, 1, 10_000)
        self._limit = read.integer("max_detections", 100, 1, 10_000)
        read.done()

    @classmethod
    def recognises(cls, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """Whether any decoder knows these outputs."""
        network, none = Network(inputs, outputs, Labels()), Options({})
        return any(decoder.recognises(network, none) for decoder in DECODERS)

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The objects, best first; what lies outside the frame is dropped."""
        candidates = self._decoder.candidates(outputs, geometry, self._threshold)
        placed = boxes.to_frame(candidates.boxes, geometry)
        inside = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
        candidates = Candidates(placed[inside], candidates.scores[inside], candidates.label_ids[inside])
        kept = boxes.suppress(candidates, iou=self._iou, nms=self._nms, top_k=self._top_k, limit=self._limit)
        return [
            {"label": self._labels.name(label_id), "label_id": label_id, "score": score, "box": _box(*corners)}
            for label_id, score, corners in zip(
                candidates.label_ids[kept].tolist(),
                np.round(candidates.scores[kept].astype(np.float64), 6).tolist(),
                candidates.boxes[kept].tolist(),
            )
        ]


def _box(left: float, top: float, right: float, bottom: float) -> Dict[str, float]:
    return {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}


def _recognise(network: Network, options: Options) -> Type[Decoder]:
    for decoder in DECODERS:
        if decoder.recognises(network, options):
            return decoder
    labels = f" and {network.label_count} labels" if network.label_count else ""
    known = "; ".join(f"{decoder.name}: {decoder.expects}" for decoder in DECODERS)
    raise ModelError(
        "outputs-not-recognised",
        f"the network has outputs {network}{labels}: no detection head is known with these",
        hint=f"say options.decoder; known: {known}",
    )
