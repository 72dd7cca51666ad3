"""What several windows of a frame found, as what was found in the frame.

==================  ==================================================================================
classification      each label with its best score
detection, text,    what several windows found of one object is one (below), the best first
keypoints
segmentation        each label's masks joined
anomaly             the worst score, the maps joined
the rest            nothing that parts could say together: refused
==================  ==================================================================================

Two windows found one object where their boxes of one label overlap by more than half (intersection over union), or
where a box that its own window's edge cuts lies mostly in the other: a part of it.  What one window found apart stays
apart.  Of one object the best box that no edge cuts is kept, or else the box around all its parts; with the best score.

What has its centre outside the region that it was found in is dropped.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import kinds
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.windows import Window

__all__ = ["merge"]

Corners = Tuple[float, float, float, float]
"""Left, top, right and bottom in fractions of the frame."""

_MOST = 1000
"""Objects that are merged, the best of them."""
_SAME = 0.5
"""Boxes that share more than this are of one object."""
_EDGE = 0.01
"""Nearer to an edge of its window than this share of it, a box is cut by it."""


class _Found(NamedTuple):
    """A prediction, and the window that it was found in."""

    prediction: Prediction
    window: int
    corners: Optional[Corners]
    """None where it has no place."""
    cut: bool


def merge(windows: Sequence[Window], predictions: Sequence[Sequence[Prediction]]) -> List[Prediction]:
    """The predictions of each window as one list, the best first.

    Raises ``ModelError`` for kinds that several windows cannot say together.
    """
    found: Dict[str, List[_Found]] = {}
    for place, (window, each) in enumerate(zip(windows, predictions)):
        for prediction in each:
            one = _found(prediction, place, window)
            if _is_inside(one, window):
                found.setdefault(kinds.kind_of(prediction), []).append(one)
    if len(windows) == 1:
        return [one.prediction for each in found.values() for one in each]
    merged: List[Prediction] = []
    for kind, alike in found.items():
        if kind not in _MERGERS:
            hint = "leave input.tile out, and all but one of input.regions"
            raise ModelError("parts-unsupported", f"parts of a frame cannot say one {kind} together", hint)
        merged += _MERGERS[kind](alike)
    return merged


def _found(prediction: Prediction, place: int, window: Window) -> _Found:
    if window.region is not None and prediction.get("mask") is not None:
        prediction = _masked({**prediction, "mask": window.region.cut(np.asarray(prediction["mask"]))})
    corners = _corners(prediction)
    return _Found(prediction, place, corners, corners is not None and _is_cut(corners, window))


def _corners(prediction: Prediction) -> Optional[Corners]:
    """What encloses a prediction: its box, or its key points."""
    box, points = prediction.get("box"), prediction.get("keypoints")
    if box:
        return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
    if points:
        columns, rows = [point["x"] for point in points], [point["y"] for point in points]
        return min(columns), min(rows), max(columns), max(rows)
    return None


def _is_cut(corners: Corners, window: Window) -> bool:
    """Whether a box ends where its window does and the frame goes on."""
    left, top, right, bottom = corners
    picture = window.picture
    near_x, near_y = _EDGE * picture.width, _EDGE * picture.height
    ends = (
        left < picture.x + near_x,
        top < picture.y + near_y,
        right > picture.x + picture.width - near_x,
        bottom > picture.y + picture.height - near_y,
    )
    return any(inner and end for inner, end in zip(window.inner, ends))


def _is_inside(one: _Found, window: Window) -> bool:
    """Whether what was found counts in the window's region."""
    if window.region is None or one.corners is None:
        return True
    left, top, right, bottom = one.corners
    return window.region.contains((left + right) / 2, (top + bottom) / 2)


# -- one merger for each kind ------------------------------------------------------------------------------------------


def _classes(found: Sequence[_Found]) -> List[Prediction]:
    """As many labels as the window with most of them gave."""
    best: Dict[object, Prediction] = {}
    for one in sorted(found, key=_worse_last):
        best.setdefault(_label(one.prediction), one.prediction)
    windows = [one.window for one in found]
    return list(best.values())[: max(map(windows.count, windows))]


def _areas(found: Sequence[_Found]) -> List[Prediction]:
    by_label: Dict[object, List[Prediction]] = {}
    for one in sorted(found, key=_worse_last):
        by_label.setdefault(_label(one.prediction), []).append(one.prediction)
    return [_joined_area(each) for each in by_label.values()]


def _joined_area(each: Sequence[Prediction]) -> Prediction:
    return _masked({**each[0], "mask": _joined([prediction["mask"] for prediction in each])})


def _masked(prediction: Prediction) -> Prediction:
    """The prediction, its area measured again where it has one."""
    if prediction.get("area") is not None:
        prediction["area"] = round(float(np.mean(prediction["mask"])), 6)
    return prediction


def _anomaly(found: Sequence[_Found]) -> List[Prediction]:
    worst = dict(min(found, key=_worse_last).prediction)
    worst["anomalous"] = any(one.prediction["anomalous"] for one in found)
    maps = [one.prediction["map"] for one in found if one.prediction.get("map") is not None]
    return [{**worst, "map": _joined(maps)} if maps else worst]


def _objects(found: Sequence[_Found]) -> List[Prediction]:
    """Each object once; what has no place is nobody's double."""
    placed = sorted((one for one in found if one.corners), key=_worse_last)[:_MOST]
    corners = np.array([one.corners for one in placed], np.float64).reshape(-1, 4)
    cut, windows = np.array([one.cut for one in placed], bool), np.array([one.window for one in placed], int)
    labels = [_label(one.prediction) for one in placed]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbered = np.array([numbers[label] for label in labels], int)
    left = np.ones(len(placed), bool)
    objects = [one.prediction for one in found if not one.corners]
    for place in range(len(placed)):
        if not left[place]:
            continue
        members = [place]
        left[place] = False
        box, whole = corners[place], not cut[place]
        while True:
            open_ones = left & (numbered == numbered[place]) & ~np.isin(windows, windows[members])
            same = np.flatnonzero(open_ones & _overlap(box, not whole, corners, cut))
            if not len(same):
                break
            members += same.tolist()
            left[same] = False
            uncut = [member for member in members if not cut[member]]
            whole = bool(uncut)
            box = corners[uncut[0]] if uncut else _around(corners[members])
        objects.append(_object([placed[member] for member in members], box, whole))
    return objects


def _overlap(box: np.ndarray, is_cut: bool, others: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Which of the others are the same object as the box."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(size, 0.0), axis=1)
    own, areas = np.prod(box[2:] - box[:2]), np.prod(others[:, 2:] - others[:, :2], axis=1)
    part = (cut & (shared > _SAME * areas)) | (is_cut & (shared > _SAME * own))
    return np.asarray(part | (shared > _SAME * (own + areas - shared)))


def _around(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])


def _object(members: Sequence[_Found], corners: np.ndarray, whole: bool) -> Prediction:
    """One object of what several windows found of it, the best first."""
    if len(members) == 1:
        return members[0].prediction
    best = dict(next((one for one in members if not one.cut), members[0]).prediction)
    if "score" in members[0].prediction:
        best["score"] = members[0].prediction["score"]
    if not whole and "box" in best and "corners" not in best:
        left, top, right, bottom = np.round(corners, 6).tolist()
        best["box"] = {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}
        masks = [one.prediction["mask"] for one in members if one.prediction.get("mask") is not None]
        if masks:
            best["mask"] = _joined(masks)
    return best


def _joined(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Masks or maps over the frame as one, of the finest resolution: the larger number everywhere."""
    height, width = max((np.asarray(plane).shape for plane in planes), key=np.prod)
    joined: np.ndarray = np.zeros((height, width), np.asarray(planes[0]).dtype)
    for plane in planes:
        array = np.asarray(plane)
        if array.shape != joined.shape:
            carrier = array.astype(np.uint8) if array.dtype == np.bool_ else array
            array = cv2.resize(carrier, (width, height), interpolation=cv2.INTER_NEAREST).astype(joined.dtype)
        np.maximum(joined, array, out=joined)
    return joined


def _label(prediction: Prediction) -> object:
    return prediction.get("label_id"), prediction.get("label")


def _worse_last(one: _Found) -> float:
    return -float(one.prediction.get("score", 0.0))


_MERGERS: Mapping[str, Callable[[Sequence[_Found]], List[Prediction]]] = {
    kinds.CLASSIFICATION: _classes,
    kinds.DETECTION: _objects,
    kinds.TEXT: _objects,
    kinds.KEYPOINTS: _objects,
    kinds.SEGMENTATION: _areas,
    kinds.ANOMALY: _anomaly,
}
