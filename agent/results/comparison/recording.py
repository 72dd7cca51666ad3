"""An answer as what is expected from now on, in the words that ``expected`` reads.

It is kept small, because it is carried to every device: of a large tensor each so many numbers are kept, of a map a
coarser one; masks are run lengths and vectors base64 anyway.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from agent.errors import ConfigError
from agent.inference.predictions import Anomaly, Classification, Detection, Map, Prediction, Tensor
from agent.inference.tensors import DTYPES
from agent.results.comparison.answers import Predictions, is_multi_label
from agent.results.comparison.expected import MOST
from agent.results.comparison.finite import unfinite
from agent.results.comparison.maps import shrunk

__all__ = ["record"]

_ALL: Final = 4096
"""Numbers of a tensor that are all kept; of more, about a quarter as many."""
_SIDE: Final = 64
"""Pixels of a map along a side."""


def record(predictions: Predictions) -> dict[str, Any]:
    """The predictions as what is expected from now on: ``parse`` reads it, and ``compare`` agrees.

    Raises ``ConfigError`` for predictions that can never be compared.
    """
    if where := unfinite(predictions):
        raise ConfigError(f"the answer cannot be recorded: {where}", code="golden-wrong")
    kinds = {type(one) for one in predictions}
    if kinds <= {Detection} and not any(_has_more(one) for one in predictions):
        return {"boxes": [_part(one, "label", "score", "box") for one in predictions[:MOST]]}
    if kinds == {Tensor}:
        return {"tensors": {one.name: _tensor(one) for one in predictions if isinstance(one, Tensor)}}
    if kinds == {Classification} and not is_multi_label(predictions):
        return _part(predictions[0], "label", "score")
    return {"predictions": [_small(one) for one in predictions[:MOST]]}


def _has_more(prediction: Prediction) -> bool:
    """Whether a detection is more than a label in an upright box."""
    more = ("mask", "keypoints", "corners", "parts")
    return any(getattr(prediction, key, None) for key in more)


def _part(prediction: Prediction, *keys: str) -> dict[str, Any]:
    written: dict[str, Any] = msgspec.to_builtins(prediction)
    return {key: written[key] for key in keys if key in written}


def _small(prediction: Prediction) -> dict[str, Any]:
    """A prediction of any kind as the native format has it, without what says nothing of another run."""
    match prediction:
        case Map() | Anomaly() if prediction.map:
            prediction = replace(prediction, map=shrunk(prediction.map, _SIDE))
        case Detection():
            prediction = replace(prediction, track_id=None)
        case _:
            pass
    written: dict[str, Any] = msgspec.to_builtins(prediction)
    if isinstance(prediction, Detection) and prediction.parts:
        written["parts"] = [_small(part) for part in prediction.parts]
    return written


def _tensor(tensor: Tensor) -> dict[str, Any]:
    written = _part(tensor, "shape", "dtype", "encoding", "data")
    size = int(DTYPES.get(tensor.dtype, "  0")[2:])
    data = base64.b64decode(tensor.data) if tensor.encoding and isinstance(tensor.data, str) else tensor.data
    if not size or not isinstance(data, bytes) or len(data) <= _ALL * size:
        return written
    every = -(-len(data) // size // (_ALL // 4))
    kept = b"".join(data[begin : begin + size] for begin in range(0, len(data), size * every))
    return written | {"data": base64.b64encode(kept).decode(), "every": every}
