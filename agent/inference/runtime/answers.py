"""A model's answer to one picture, and the message that brings it to the core.

Predictions of one kind that follow each other travel as a group, ``{"kind": …, "items": […]}``, so that the core reads
a whole group into its type at once; the parts of a detection are groups again.  What is large in them (maps, vectors,
tensors) and the annotated picture are *segments* of the message's body; the JSON has ``{"segment": number}`` in their
place and their lengths in ``segments``.  The annotated picture, if ``annotated`` says that there is one, is the last.
What was painted (``painting``) lies where the request's picture lay, in the frame buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from agent.inference.runtime import kinds, messages
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.painting import Painted
from agent.inference.runtime.planes import png, rle

__all__ = ["WorkerAnswer"]


@dataclass(frozen=True)
class WorkerAnswer:
    """What a model says of one picture, how long each step took (ms), and the annotated JPEG if asked for."""

    predictions: List[Prediction]
    timing_ms: Dict[str, float]
    width: int
    height: int
    snapshot: bytes = b""
    damaged: bool = False
    """The decoder complained of the picture."""
    painting: Optional[Painted] = None
    """What was painted in the request's place of the frame buffer."""

    def message(self, identity: int) -> bytes:
        """The answer as a message; raises ``ModelError`` where its large parts are more than a message takes."""
        segments: List[bytes] = []
        content: Dict[str, Any] = {
            "id": identity,
            "groups": _groups(self.predictions, segments),
            "timing_ms": self.timing_ms,
            "width": self.width,
            "height": self.height,
        }
        if self.damaged:
            content["damaged"] = True
        if self.snapshot:
            content["annotated"] = True
            segments.append(self.snapshot)
        if self.painting is not None:
            content["painting"] = self.painting.as_dict()
        if segments:
            content["segments"] = [len(segment) for segment in segments]
        text, body = messages.strict(content), b"".join(segments)
        for part, most, what in (
            (text, messages.MAX_JSON, "predictions and their masks"),
            (body, messages.MAX_BODY, "maps, tensors and the like"),
        ):
            if len(part) > most:
                raise ModelError(
                    "outputs-too-large",
                    f"{what} are {len(part)} bytes, {most} are the most",
                    "give fewer or smaller ones",
                )
        return messages.encode(messages.ANSWER, text, body)


# -- what each kind has that is large ----------------------------------------------------------------------------------


def _groups(predictions: Sequence[Prediction], segments: List[bytes]) -> List[Dict[str, Any]]:
    """The predictions in groups of one kind; what is large in them goes to the end of ``segments``."""
    groups: List[Dict[str, Any]] = []
    last = None
    for prediction in predictions:
        kind = kinds.kind_of(prediction)
        if kind != last:
            items: List[Mapping[str, Any]] = []
            groups.append({"kind": kind, "items": items})
            last, pack = kind, _PACKS.get(kind)
        items.append(pack(prediction, segments) if pack else prediction)
    return groups


def _detection(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    if prediction.get("mask") is not None:
        prediction = {**prediction, "mask": _mask(prediction["mask"])}
    if prediction.get("parts"):
        prediction = {**prediction, "parts": _groups(prediction["parts"], segments)}
    return prediction


def _segmentation(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    del segments
    mask = prediction["mask"]
    area = prediction.get("area")
    share = round(float(np.mean(mask)), 6) if area is None else area
    return {**prediction, "area": share, "mask": _mask(mask)}


def _mapped(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    pixels = prediction.get("map")
    if pixels is None:
        return prediction
    height, width = pixels.shape
    data = _segment(png(pixels), segments)
    return {**prediction, "map": {"width": width, "height": height, "encoding": "png", "data": data}}


def _mask(pixels: np.ndarray) -> Dict[str, Any]:
    height, width = pixels.shape
    return {"width": width, "height": height, "encoding": "rle", "data": rle(pixels)}


def _embedding(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    vector = np.asarray(prediction["vector"])
    rest = {key: value for key, value in prediction.items() if key != "vector"}
    return {**rest, "dtype": vector.dtype.name, "size": vector.size, "data": _segment(_little(vector), segments)}


def _tensor(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    data = prediction["data"]
    return {**prediction, "data": _segment(_little(data), segments)} if isinstance(data, np.ndarray) else prediction


def _segment(data: bytes, segments: List[bytes]) -> Dict[str, int]:
    segments.append(data)
    return {"segment": len(segments) - 1}


def _little(values: np.ndarray) -> bytes:
    """The bytes of an array, little-endian, in C order."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()


_PACKS: Mapping[str, Callable[[Prediction, List[bytes]], Mapping[str, Any]]] = {
    kinds.DETECTION: _detection,
    kinds.SEGMENTATION: _segmentation,
    kinds.ANOMALY: _mapped,
    kinds.EMBEDDING: _embedding,
    kinds.MAP: _mapped,
    kinds.TENSOR: _tensor,
}
