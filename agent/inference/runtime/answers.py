"""A model's answer to one picture, and the message that brings it to the core.

Predictions of one kind that follow each other travel as a group, ``{"kind": …, "items": […]}``, so that the core reads
a whole group into its type at once.  What is large in them (masks, maps, vectors, tensors) and the annotated picture
are *segments* of the message's body; the JSON has ``{"segment": number}`` in their place and their lengths in
``segments``.  The annotated picture, if ``annotated`` says that there is one, is the last.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np

from agent.inference.runtime import kinds, messages
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError

__all__ = ["WorkerAnswer", "png"]


@dataclass(frozen=True)
class WorkerAnswer:
    """What a model says of one picture, how long each step took (ms), and the annotated JPEG if asked for."""

    predictions: List[Prediction]
    timing_ms: Dict[str, float]
    width: int
    height: int
    snapshot: bytes = b""

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
        if self.snapshot:
            content["annotated"] = True
            segments.append(self.snapshot)
        if segments:
            content["segments"] = [len(segment) for segment in segments]
        body = b"".join(segments)
        if len(body) > messages.MAX_BODY:
            raise ModelError(
                "outputs-too-large",
                f"masks, tensors and the like are {len(body)} bytes, {messages.MAX_BODY} are the most",
                "give fewer or smaller ones",
            )
        return messages.encode(messages.ANSWER, content, body)


def png(pixels: np.ndarray) -> bytes:
    """A picture of one channel as PNG: of booleans with one bit for a pixel, of uint8 with eight; rows unfiltered."""
    height, width = pixels.shape
    is_mask = pixels.dtype == np.bool_
    rows = np.packbits(pixels, axis=1) if is_mask else np.ascontiguousarray(pixels, np.uint8)
    filters = np.zeros((height, 1), np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 1 if is_mask else 8, 0, 0, 0, 0)
    data = zlib.compress(np.hstack([filters, rows]).tobytes())
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


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


def _masked(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    return _with_image(prediction, "mask", segments)


def _mapped(prediction: Prediction, segments: List[bytes]) -> Mapping[str, Any]:
    return _with_image(prediction, "map", segments)


def _with_image(prediction: Prediction, key: str, segments: List[bytes]) -> Mapping[str, Any]:
    pixels = prediction.get(key)
    if pixels is None:
        return prediction
    height, width = pixels.shape
    return {
        **prediction,
        key: {"width": width, "height": height, "encoding": "png", "data": _segment(png(pixels), segments)},
    }


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
    kinds.DETECTION: _masked,
    kinds.SEGMENTATION: _masked,
    kinds.ANOMALY: _mapped,
    kinds.EMBEDDING: _embedding,
    kinds.TENSOR: _tensor,
}
