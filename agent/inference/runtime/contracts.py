"""What a stranger's code must give, looked at whenever it gives something.

The agent's own backends and tasks are held to this by their tests; code that came with a model is held to
it at run time, so that a mistake is an error that names it and not a result that cannot be read.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NoReturn, Sequence

import numpy as np

from agent.inference.runtime.base import Backend, Prediction, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.picture import Picture

__all__ = ["arrays", "network", "picture", "predictions"]

_CLASS = ("label", "label_id", "score")
_TENSOR = ("name", "shape", "dtype", "data")
_BOX = ("x", "y", "width", "height")
_CHANNELS = 3
_FAR = 1.0
"""How far outside the frame a box may reach; what is farther was not given in fractions."""


def network(backend: Backend, who: str) -> None:
    """A loaded backend tells what its network takes and gives."""
    for key in ("inputs", "outputs"):
        tensors = getattr(backend, key)
        if not isinstance(tensors, (list, tuple)) or not all(isinstance(each, TensorInfo) for each in tensors):
            _wrong(who, f"its {key} are {_short(tensors)}", f"set self.{key} to a list of TensorInfo")


def arrays(told: Any, count: int, who: str) -> Sequence[np.ndarray]:
    """What ``run`` returns: one array for each output."""
    if isinstance(told, (list, tuple)) and len(told) == count and all(isinstance(each, np.ndarray) for each in told):
        return told
    _wrong(who, f"run gave {_short(told)}", f"return a list of NumPy arrays, one for each of the {count} outputs")


def picture(told: Any, who: str) -> Picture:
    """What preprocessing returns: a picture whose pixels are one."""
    if not isinstance(told, Picture):
        hint = "return picture.crop(…) for a part of it, picture.replace(pixels) for other pixels of the same part"
        _wrong(who, f"it returned {_short(told)}", hint)
    for pixels in (told.pixels, told.frame):
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not _is_colour(pixels):
            hint = "pixels are uint8 of height × width × 3, BGR"
            _wrong(who, f"the pixels it returned are {_short(pixels)}", hint)
    return told


def predictions(told: Any, who: str) -> List[Prediction]:
    """What a task or postprocessing returns: classes or tensors, as results carry them, with Python's own numbers."""
    if not isinstance(told, (list, tuple)):
        _wrong(who, f"it returned {_short(told)}", "return a list of predictions; an empty one where there is none")
    kind = _tensor if told and isinstance(told[0], Mapping) and "dtype" in told[0] else _class
    return [kind(each, f"prediction {number}", who) for number, each in enumerate(told)]


def _class(told: Any, where: str, who: str) -> Prediction:
    given = _keys(told, _CLASS, ("box",), where, who)
    label, label_id = given["label"], _plain(given["label_id"])
    if not isinstance(label, str):
        _wrong(who, f"{where} has the label {_short(label)}", "a label is text")
    if not isinstance(label_id, int) or isinstance(label_id, bool):
        _wrong(who, f"{where} has the label_id {_short(label_id)}", "a label_id is a whole number")
    found = {"label": label, "label_id": label_id, "score": _number(given["score"], f"the score of {where}", who)}
    return {**found, "box": _box(given["box"], f"the box of {where}", who)} if given.get("box") is not None else found


def _box(told: Any, where: str, who: str) -> Dict[str, float]:
    given = _keys(told, _BOX, (), where, who)
    x, y, width, height = (_number(given[key], f"{key} in {where}", who) for key in _BOX)
    near = all(-_FAR <= edge <= 1 + _FAR for edge in (x, y, x + width, y + height))
    if width < 0 or height < 0 or not near:
        hint = "x, y, width and height are fractions of the frame, from its top left corner"
        _wrong(who, f"{where} is {_short(told)}", hint)
    left, right, top, bottom = (min(max(edge, 0.0), 1.0) for edge in (x, x + width, y, y + height))
    return {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}


def _tensor(told: Any, where: str, who: str) -> Prediction:
    given = _keys(told, _TENSOR, ("encoding",), where, who)
    shape = [_plain(side) for side in given["shape"]] if isinstance(given["shape"], (list, tuple)) else [None]
    if not all(isinstance(side, int) for side in shape) or not isinstance(given["dtype"], str):
        _wrong(who, f"{where} is {_short(told)}", "shape is a list of whole numbers, dtype NumPy's name")
    if not isinstance(given["data"], str):
        try:
            finite = bool(np.isfinite(np.asarray(given["data"])).all())
        except (TypeError, ValueError):
            finite = False
        if not finite:
            _wrong(who, f"the data of {where} are {_short(given['data'])}", "give nested lists of finite numbers")
    return {**given, "name": str(given["name"]), "shape": shape, "data": _plain(given["data"])}


def _keys(told: Any, needed: Sequence[str], others: Sequence[str], where: str, who: str) -> Mapping[str, Any]:
    known = (*needed, *others)
    hint = f"give it {', '.join(needed)}{' and perhaps ' + ', '.join(others) if others else ''}, and nothing else"
    if not isinstance(told, Mapping):
        _wrong(who, f"{where} is {_short(told)}", hint)
    missing, strange = [key for key in needed if key not in told], [key for key in told if key not in known]
    if missing:
        _wrong(who, f"{where} has no {missing[0]}", hint)
    if strange:
        _wrong(who, f"{where} has {_short(strange[0])}, which no result carries", hint)
    return told


def _number(told: Any, where: str, who: str) -> float:
    value = _plain(told)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        _wrong(who, f"{where} is {_short(told)}", "give a finite number")
    return float(value)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's own."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _is_colour(pixels: np.ndarray) -> bool:
    return pixels.ndim == _CHANNELS and pixels.shape[2] == _CHANNELS and pixels.size > 0


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a line of a terminal


def _wrong(who: str, what: str, hint: str) -> NoReturn:
    raise ModelError("code-wrong", f"{who}: {what}", hint)
