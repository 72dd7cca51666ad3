"""What a user's code must give, checked whenever it gives something.

The agent's own backends and tasks are held to this by their tests; code that came with a model is held to
it at run time, so that a mistake is an error that names it and not a result that cannot be read.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import kinds
from agent.inference.runtime.base import Backend, Prediction, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.planes import scaled

__all__ = ["arrays", "network", "picture", "predictions"]

_CLASS = ("label", "label_id", "score")
_TENSOR = ("name", "shape", "dtype", "data")
_BOX = ("x", "y", "width", "height")
_DETECTED = ("mask", "keypoints", "corners", "angle", "track_id", "parts")
_CHANNELS = 3
_CORNERS = 4
_DEEPEST = 4
"""How many detections may be inside each other, as parts."""
_PLANES = 2
_FAR = 1.0
"""How far outside the frame a box may reach; what is farther was not given in fractions."""


def network(backend: Backend, who: str) -> None:
    """A loaded backend says what its network takes and gives."""
    for key in ("inputs", "outputs"):
        tensors = getattr(backend, key)
        if not isinstance(tensors, (list, tuple)) or not all(isinstance(tensor, TensorInfo) for tensor in tensors):
            _wrong(who, f"its {key} are {_short(tensors)}", f"set self.{key} to a list of TensorInfo")


def arrays(given: Any, count: int, who: str) -> Sequence[np.ndarray]:
    """What ``run`` returns: one array for each output."""
    if (
        isinstance(given, (list, tuple))
        and len(given) == count
        and all(isinstance(array, np.ndarray) for array in given)
    ):
        return given
    _wrong(who, f"run gave {_short(given)}", f"return a list of NumPy arrays, one for each of the {count} outputs")


def picture(given: Any, who: str) -> Picture:
    """What preprocessing returns: a picture whose pixels are one."""
    if not isinstance(given, Picture):
        hint = "return picture.crop(…) for a part of it, picture.replace(pixels) for other pixels of the same part"
        _wrong(who, f"it returned {_short(given)}", hint)
    for pixels in (given.pixels, given.frame):
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not _is_colour(pixels):
            hint = "pixels are uint8 of height × width × 3, BGR"
            _wrong(who, f"the pixels it returned are {_short(pixels)}", hint)
    return given


def predictions(given: Any, who: str) -> List[Prediction]:
    """What a task or postprocessing returns: predictions of any kinds (``kinds.py``), with Python's own numbers."""
    if not isinstance(given, (list, tuple)):
        _wrong(who, f"it returned {_short(given)}", "return a list of predictions; an empty one where there is none")
    return _predictions(given, "", who)


# -- one check for each kind -------------------------------------------------------------------------------------------


def _predictions(given: Sequence[Any], of: str, who: str) -> List[Prediction]:
    checked = [_prediction(one, f"prediction {number}{of}", who) for number, one in enumerate(given)]
    given_kinds = {kinds.kind_of(one) for one in checked}
    if kinds.TENSOR in given_kinds and len(given_kinds) > 1:
        _wrong(who, "it returned tensors beside other predictions", "return tensors alone")
    return checked


def _prediction(given: Any, where: str, who: str) -> Prediction:
    if not isinstance(given, Mapping):
        _wrong(who, f"{where} is {_short(given)}", "a prediction is a dict, as docs/customize.md lists them")
    kind = kinds.kind_of(given)
    if kind not in _CHECKS:
        _wrong(who, f"{where} has the kind {_short(kind)}", f"known: {', '.join(_CHECKS)}")
    fields = {key: value for key, value in given.items() if key != "kind" and value is not None}
    return _CHECKS[kind](fields, where, who)


def _classification(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    return _labelled(_keys(given, _CLASS, ("box",), where, who), where, who)


def _detection(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, (*_CLASS, "box"), _DETECTED, where, who)
    box = _box(fields["box"], f"the box of {where}", who)
    return {**_labelled(fields, where, who), "box": box, **_given(fields, _DETECTED, where, who)}


def _segmentation(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, ("label", "label_id", "mask"), ("score", "area"), where, who)
    mask = _mask(fields["mask"], f"the mask of {where}", who)
    return {**_given(fields, (*_CLASS, "area"), where, who), "mask": mask}


def _keypoints_alone(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    return _given(_keys(given, ("keypoints",), _CLASS, where, who), (*_CLASS, "keypoints"), where, who)


def _anomaly(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, ("anomalous", "score"), ("threshold", "map"), where, who)
    anomalous = _plain(fields["anomalous"])
    if not isinstance(anomalous, bool):
        _wrong(who, f"{where} has the anomalous {_short(anomalous)}", "anomalous is True or False")
    checked: Prediction = {"anomalous": anomalous, **_given(fields, ("score", "threshold"), where, who)}
    if "map" in fields:
        checked["map"], _, _ = _levels(fields["map"], 0.0, 1.0, f"the map of {where}", who)
    return checked


def _text(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    others = ("score", "box", "corners", "character_scores")
    fields = _keys(given, ("text",), others, where, who)
    text = fields["text"]
    if not isinstance(text, str):
        _wrong(who, f"{where} has the text {_short(text)}", "text is a str")
    checked: Prediction = {"text": text, **_given(fields, others, where, who)}
    scores = checked.get("character_scores")
    if scores is not None and len(scores) != len(text):
        what = f"{where} has {len(scores)} character_scores for {len(text)} characters"
        _wrong(who, what, "give one for each character of the text")
    return checked


def _embedding(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, ("vector",), ("name", "similarity"), where, who)
    vector = _array(fields["vector"])
    if vector is None or vector.ndim != 1 or not _is_finite(vector):
        _wrong(who, f"the vector of {where} is {_short(fields['vector'])}", "give one row of finite numbers")
    vector = vector if vector.dtype.kind == "f" else vector.astype(np.float32)
    return {"vector": vector, **_given(fields, ("name", "similarity"), where, who)}


def _map(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, ("map",), ("minimum", "maximum", "unit"), where, who)
    checked = _given(fields, ("minimum", "maximum", "unit"), where, who)
    low, high = checked.get("minimum"), checked.get("maximum")
    levels, low, high = _levels(fields["map"], low, high, f"the map of {where}", who)
    return {**checked, "map": levels, "minimum": low, "maximum": high}


def _tensor(given: Mapping[str, Any], where: str, who: str) -> Prediction:
    fields = _keys(given, _TENSOR, ("encoding",), where, who)
    shape = [_plain(side) for side in fields["shape"]] if isinstance(fields["shape"], (list, tuple)) else [None]
    if not all(isinstance(side, int) for side in shape) or not isinstance(fields["dtype"], str):
        _wrong(who, f"{where} is {_short(given)}", "shape is a list of whole numbers, dtype NumPy's name")
    data = fields["data"]
    # An array that is what the prediction says of it travels as bytes.
    is_exact = isinstance(data, np.ndarray) and data.dtype.name == fields["dtype"] and list(data.shape) == shape
    is_text = "encoding" in fields and (is_exact or isinstance(data, str))
    if not (is_text or isinstance(data, str)):
        values = None if "encoding" in fields else _array(data)
        if values is None or not _is_finite(values):
            _wrong(who, f"the data of {where} are {_short(data)}", "give nested lists of finite numbers")
    return {**fields, "name": str(fields["name"]), "shape": shape, "data": data if is_exact else _plain(data)}


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], str, str], Prediction]] = {
    kinds.CLASSIFICATION: _classification,
    kinds.DETECTION: _detection,
    kinds.SEGMENTATION: _segmentation,
    kinds.KEYPOINTS: _keypoints_alone,
    kinds.ANOMALY: _anomaly,
    kinds.TEXT: _text,
    kinds.EMBEDDING: _embedding,
    kinds.MAP: _map,
    kinds.TENSOR: _tensor,
}


# -- fields ------------------------------------------------------------------------------------------------------------


def _labelled(fields: Mapping[str, Any], where: str, who: str) -> Prediction:
    return _given(fields, _CLASS, where, who)


def _given(fields: Mapping[str, Any], keys: Sequence[str], where: str, who: str) -> Prediction:
    """Those of the keys that are given, each checked for what it is."""
    return {key: _FIELDS[key](fields[key], f"the {key} of {where}", who) for key in keys if key in fields}


def _word(given: Any, where: str, who: str) -> str:
    if not isinstance(given, str):
        _wrong(who, f"{where} is {_short(given)}", "give text")
    return given


def _box(given: Any, where: str, who: str) -> Dict[str, float]:
    fields = _keys(given, _BOX, (), where, who)
    x, y, width, height = (_number(fields[key], f"{key} in {where}", who) for key in _BOX)
    if width < 0 or height < 0 or not all(map(_is_near, (x, y, x + width, y + height))):
        hint = "x, y, width and height are fractions of the frame, from its top left corner"
        _wrong(who, f"{where} is {_short(given)}", hint)
    left, right, top, bottom = (min(max(edge, 0.0), 1.0) for edge in (x, x + width, y, y + height))
    return {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}


def _points(given: Any, where: str, who: str) -> List[Dict[str, Any]]:
    if not isinstance(given, (list, tuple)):
        _wrong(who, f"{where} are {_short(given)}", "give a list of {x, y, z, score, name}")
    return [_point(one, f"point {number} in {where}", who) for number, one in enumerate(given)]


def _point(given: Any, where: str, who: str) -> Dict[str, Any]:
    fields = _keys(given, ("x", "y"), ("z", "score", "name"), where, who)
    checked: Dict[str, Any] = {
        key: _number(fields[key], f"{key} in {where}", who) for key in ("x", "y", "z", "score") if key in fields
    }
    if not (_is_near(checked["x"]) and _is_near(checked["y"])):
        _wrong(who, f"{where} is {_short(given)}", "x and y are fractions of the frame, from its top left corner")
    return {**checked, "name": str(fields["name"])} if "name" in fields else checked


def _corners(given: Any, where: str, who: str) -> List[Tuple[float, float]]:
    values = _array(given)
    if values is None or values.shape != (_CORNERS, 2) or not all(map(_is_near, values.reshape(-1).tolist())):
        hint = "give four [x, y] in fractions of the frame, clockwise from the box's own top left"
        _wrong(who, f"{where} are {_short(given)}", hint)
    return [(float(x), float(y)) for x, y in values.tolist()]


def _scores(given: Any, where: str, who: str) -> List[float]:
    values = _array(given)
    if values is None or values.ndim != 1 or not _is_finite(values):
        _wrong(who, f"{where} are {_short(given)}", "give a list of finite numbers")
    return [float(score) for score in values.tolist()]


def _parts(given: Any, where: str, who: str) -> List[Prediction]:
    if not isinstance(given, (list, tuple)):
        _wrong(who, f"{where} are {_short(given)}", "give a list of predictions")
    if where.count("the parts of") > _DEEPEST:
        _wrong(who, "parts are too deep inside each other", f"{_DEEPEST} levels are the most")
    return _predictions(given, f" in {where}", who)


def _mask(given: Any, where: str, who: str) -> np.ndarray:
    values = _array(given)
    if values is None or not _is_plane(values) or values.dtype.kind not in "biu":
        _wrong(who, f"{where} is {_short(given)}", "a mask is an array of height × width, bool or whole numbers")
    return values.astype(np.bool_)


def _levels(
    given: Any, low: Optional[float], high: Optional[float], where: str, who: str
) -> Tuple[np.ndarray, float, float]:
    """A map as uint8, and what 0 and 255 stand for."""
    values = _array(given)
    if values is None or not _is_plane(values) or not (values.dtype == np.uint8 or values.dtype.kind == "f"):
        hint = "a map is an array of height × width, of real numbers or uint8"
        _wrong(who, f"{where} is {_short(given)}", hint)
    if low is not None and high is not None and low > high:
        _wrong(who, f"{where} has the minimum {low:g} and the maximum {high:g}", "the minimum is the lesser one")
    if values.dtype != np.uint8:
        return scaled(values, low, high)
    if low is None or high is None:
        _wrong(who, f"{where} is uint8 without minimum and maximum", "give the numbers that 0 and 255 stand for")
    return values, low, high


def _whole(given: Any, where: str, who: str) -> int:
    value = _plain(given)
    if not isinstance(value, int) or isinstance(value, bool):
        _wrong(who, f"{where} is {_short(value)}", "give a whole number")
    return value


def _keys(given: Any, needed: Sequence[str], others: Sequence[str], where: str, who: str) -> Mapping[str, Any]:
    known = (*needed, *others)
    hint = f"give it {', '.join(needed)}{' and perhaps ' + ', '.join(others) if others else ''}, and nothing else"
    if not isinstance(given, Mapping):
        _wrong(who, f"{where} is {_short(given)}", hint)
    missing, strange = [key for key in needed if key not in given], [key for key in given if key not in known]
    if missing:
        _wrong(who, f"{where} has no {missing[0]}", hint)
    if strange:
        _wrong(who, f"{where} has {_short(strange[0])}, which no result carries", hint)
    return given


def _number(given: Any, where: str, who: str) -> float:
    value = _plain(given)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        _wrong(who, f"{where} is {_short(given)}", "give a finite number")
    return float(value)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's own."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _array(given: Any) -> Optional[np.ndarray]:
    """Numbers as an array; None for what is none."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _is_near(place: float) -> bool:
    return -_FAR <= place <= 1 + _FAR


def _is_plane(values: np.ndarray) -> bool:
    return values.ndim == _PLANES and values.size > 0


def _is_colour(pixels: np.ndarray) -> bool:
    return pixels.ndim == _CHANNELS and pixels.shape[2] == _CHANNELS and pixels.size > 0


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a line of a terminal


def _wrong(who: str, what: str, hint: str) -> NoReturn:
    raise ModelError("code-wrong", f"{who}: {what}", hint)


_FIELDS: Mapping[str, Callable[[Any, str, str], Any]] = {
    "label": _word,
    "label_id": _whole,
    "score": _number,
    "box": _box,
    "mask": _mask,
    "area": _number,
    "keypoints": _points,
    "corners": _corners,
    "angle": _number,
    "track_id": _whole,
    "parts": _parts,
    "threshold": _number,
    "character_scores": _scores,
    "name": _word,
    "similarity": _number,
    "minimum": _number,
    "maximum": _number,
    "unit": _word,
}
"""What each key of a prediction has to be, whatever its kind."""
