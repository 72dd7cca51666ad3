"""Object detection: whatever the network's head, boxes in fractions of the frame.

::

    outputs → decoder: candidates above the threshold → suppression, best first → frame's coordinates, clipped
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple, Type

import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import Claim, Geometry, Labels, Network, Prediction, Task, TensorInfo
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import within_one
from agent.inference.runtime.tasks.decoders import mtcnn
from agent.inference.runtime.tasks.decoders.apart import Apart
from agent.inference.runtime.tasks.decoders.base import Decoder
from agent.inference.runtime.tasks.decoders.blaze import Blaze
from agent.inference.runtime.tasks.decoders.centerface import CenterFace
from agent.inference.runtime.tasks.decoders.dbnet import DBNet
from agent.inference.runtime.tasks.decoders.decoded import DecodedBoxes
from agent.inference.runtime.tasks.decoders.detr import Detr, RtDetr
from agent.inference.runtime.tasks.decoders.end2end import End2End
from agent.inference.runtime.tasks.decoders.gfl import NanoDet, PicoDet
from agent.inference.runtime.tasks.decoders.gluoncv import GluonCV
from agent.inference.runtime.tasks.decoders.points import End2EndPose, YoloV5Pose, YoloV8Pose
from agent.inference.runtime.tasks.decoders.prototypes import End2EndSeg, YoloV5Seg, YoloV8Seg
from agent.inference.runtime.tasks.decoders.retinaface import RetinaFace
from agent.inference.runtime.tasks.decoders.scrfd import Scrfd
from agent.inference.runtime.tasks.decoders.ssd_post import SsdPost
from agent.inference.runtime.tasks.decoders.ssd_raw import SsdRaw
from agent.inference.runtime.tasks.decoders.turned import End2EndObb, YoloV8Obb
from agent.inference.runtime.tasks.decoders.ultraface import UltraFace
from agent.inference.runtime.tasks.decoders.yolo import YoloV5, YoloV8
from agent.inference.runtime.tasks.decoders.yolo_raw import YoloRaw
from agent.inference.runtime.tasks.decoders.yolov5_face import YoloV5Face
from agent.inference.runtime.tasks.decoders.yolox import YoloV6, YoloX
from agent.inference.runtime.tasks.decoders.yunet import YuNet

__all__ = ["DECODERS", "ObjectDetection"]

DECODERS: Tuple[Type[Decoder], ...] = (
    Blaze,
    UltraFace,
    RetinaFace,
    Scrfd,
    YuNet,
    CenterFace,
    SsdPost,
    GluonCV,
    Apart,
    SsdRaw,
    Detr,
    DecodedBoxes,
    YoloV8Seg,
    YoloV5Seg,
    YoloV8Pose,
    YoloV5Pose,
    YoloV8Obb,
    YoloV5Face,
    YoloV8,
    YoloV5,
    YoloRaw,
    PicoDet,
    NanoDet,
    YoloX,
    YoloV6,
    End2End,
    End2EndSeg,
    End2EndPose,
    End2EndObb,
    RtDetr,
    DBNet,
)
"""Every head, in the order in which those with equal evidence are tried: those of few networks before those of many."""


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
        network = Network(inputs, outputs, labels, options=options)
        known = [decoder.name for decoder in DECODERS]
        wanted = read.choice("decoder", "auto", ["auto", *known])
        kind = _recognise(network) if wanted == "auto" else DECODERS[known.index(wanted)]
        self.decoder = kind.name
        self._decoder = kind(network, read)
        self._labels = labels if labels.names else Labels(dict(enumerate(self._decoder.label_names)))
        self._label_count = max(self._labels.names, default=-1) + 1
        self._threshold = read.number("threshold", self._decoder.threshold, 0.0, 1.0)
        self._nms = read.choice("nms", self._decoder.nms, boxes.NMS)
        self._iou = read.number("iou", self._decoder.iou, 0.0, 1.0)
        self._top_k = read.integer("top_k", 1000, 1, 10_000)
        self._limit = read.integer("max_detections", 100, 1, 10_000)
        read.done()

    @classmethod
    def recognises(cls, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """Whether any decoder knows these outputs."""
        return any(not claim.against for claim in cls.claims(Network(inputs, outputs, Labels())))

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """What each decoder makes of the outputs; and what is a part of a detector alone."""
        made = [*(decoder.claim(network) for decoder in DECODERS), mtcnn.stage(network)]
        return [claim for claim in made if claim is not None]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """Scores above 1, classes beyond the labels, boxes outside the picture."""
        del strength
        return self._decoder.doubt(outputs, geometry, self._label_count)

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The objects, best first; what lies outside the frame is dropped."""
        candidates = self._decoder.candidates(outputs, geometry, self._threshold)
        within_one(candidates.scores)
        if self._nms == "weighted":
            candidates = boxes.merged(candidates, iou=self._iou, top_k=self._top_k)
        kept = boxes.suppress(candidates, iou=self._iou, nms=self._nms, top_k=self._top_k, limit=self._limit)
        found = candidates.take(kept)
        placed = boxes.to_frame(found.boxes, geometry)
        found = replace(found, boxes=placed).take((placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1]))
        scores = np.round(np.minimum(found.scores.astype(np.float64), 1.0), 6)
        predictions: List[Prediction] = [
            {"label": self._labels.name(label_id), "label_id": label_id, "score": score, "box": _box(*corners)}
            for label_id, score, corners in zip(found.label_ids.tolist(), scores.tolist(), found.boxes.tolist())
        ]
        for key, values in _details(found, geometry, self._decoder.keypoint_names):
            for prediction, value in zip(predictions, values):
                prediction[key] = value
        return predictions


def _details(found: Candidates, geometry: Geometry, names: Sequence[str]) -> Iterator[Tuple[str, List[Any]]]:
    """What some heads say beside the boxes, one value for each candidate."""
    if found.masks is not None and len(found.scores):
        yield "mask", found.masks(np.arange(len(found.scores)), geometry)
    if found.keypoints is not None:
        places = boxes.points_to_frame(found.keypoints[..., :2].astype(np.float64), geometry)
        yield "keypoints", [_keypoints(*each, names) for each in zip(places, found.keypoints[..., 2])]
    if found.corners is not None:
        corners = boxes.points_to_frame(found.corners.astype(np.float64), geometry)
        yield "corners", corners.tolist()
        yield "angle", _angles(corners, geometry)


def _keypoints(places: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> List[Dict[str, Any]]:
    points: List[Dict[str, Any]] = [{"x": x, "y": y} for x, y in places.tolist()]
    for point, score, name in zip_longest(
        points, np.round(scores.astype(np.float64), 6).tolist(), names[: len(points)]
    ):
        if not math.isnan(score):
            point["score"] = score
        if name:
            point["name"] = name
    return points


def _angles(corners: np.ndarray, geometry: Geometry) -> List[float]:
    """By how many degrees the upper sides are turned clockwise, in the frame's pixels."""
    right, down = ((corners[:, 1] - corners[:, 0]) * (geometry.width, geometry.height)).T
    return [round(angle, 2) for angle in np.degrees(np.arctan2(down, right)).tolist()]


def _box(left: float, top: float, right: float, bottom: float) -> Dict[str, float]:
    return {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}


def _recognise(network: Network) -> Type[Decoder]:
    for decoder in DECODERS:
        claim = decoder.claim(network)
        if claim is not None and not claim.against:
            return decoder
    labels = f" and {network.label_count} labels" if network.label_count else ""
    known = "; ".join(f"{decoder.name}: {decoder.expects}" for decoder in DECODERS)
    raise ModelError(
        "outputs-not-recognised",
        f"the network has outputs {network}{labels}: no detection head is known with these",
        hint=f"say options.decoder; known: {known}",
    )
