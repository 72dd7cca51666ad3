"""A second model that looks at what the first one detects: face → embedding, plate → text, box → defect.

::

    detections → those of a stage's classes, best first → crop, perhaps straightened → the stage's model → parts

What a stage says becomes ``parts`` of the detection, places in fractions of the whole frame; with ``instead`` the texts
that it reads stand in the place of the boxes they were read from, in reading order.  A stage with ``turn`` says by how
many degrees its crop is turned, and those behind it get it upright.

==============  =======================================================================================
``align``       what a stage gets
==============  =======================================================================================
``box``         the box, wider by ``margin`` of its sides at each side
``corners``     the rotated box, straightened; one that stands, as vertical writing does, is laid down
``upright``     a face, a hand or a body as MediaPipe cuts it out for its landmarks: square, upright by two of
                the detection's key points, wider than the box
``face``        112 × 112 with eyes, nose and mouth where ArcFace and its kin were trained to have them
==============  =======================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Protocol, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import kinds
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.stopwatch import Stopwatch

__all__ = ["Stage", "extended", "vector"]

_QUARTER = 90
_STANDS = 1.5
"""A box this much higher than wide holds writing from top to bottom; PaddleOCR's figure."""
_FACE_SIDE = 112
_FACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""ArcFace's template: left eye, right eye (as the picture shows them), nose, both corners of the mouth, in pixels."""
_EYES_NOSE_MOUTH = 4  # MediaPipe's faces have one point for the mouth, and ears behind it
_SAME_LINE = 0.5
_SURE = 0.9
"""How sure a classifier must be to turn a crop; PaddleOCR's figure."""


class Looker(Protocol):
    """A loaded model (``session.py``)."""

    @property
    def digest(self) -> str:
        """Of its files."""

    def look(self, view: Picture, watch: Stopwatch) -> List[Prediction]:
        """What it says of a part of a frame; places are fractions of the whole frame."""

    def describe(self) -> Dict[str, Any]:
        """What it is, as JSON."""

    @property
    def longest_ms(self) -> float:
        """How long it may look at one."""

    def learn(self, folder: str, look: Callable[[Picture, Stopwatch], List[Prediction]]) -> None:
        """Know what the pictures in ``folder`` show; ``look`` finds its vector in each."""


@dataclass(frozen=True)
class Stage:
    """A model behind another one, and what it is given."""

    model: Looker
    classes: FrozenSet[str] = frozenset()
    """Labels of the detections that it looks at; all where there are none."""
    align: str = "box"
    margin: float = 0.0
    most: int = 32
    """Detections of a frame that it looks at, the best ones."""
    turn: bool = False
    instead: bool = False

    def wants(self, detection: Prediction) -> bool:
        """Whether it looks at a detection."""
        return not self.classes or detection["label"] in self.classes


@dataclass(frozen=True)
class _Crop:
    """Pixels cut out of a frame, and the way back from fractions of them; None where they know it themselves."""

    view: Picture
    matrix: Optional[np.ndarray] = None

    def turned(self, quarters: int) -> _Crop:
        """The crop after ``quarters`` turns to the left."""
        if not quarters % 4:
            return self
        matrix = self.matrix if self.matrix is not None else _placing(self.view)
        back = np.linalg.matrix_power(_LEFT, quarters % 4)
        return _Crop(Picture.of(np.ascontiguousarray(np.rot90(self.view.pixels, quarters))), matrix @ back)


_LEFT = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""From fractions of a picture that was turned to the left by 90° to those of the picture before."""


def extended(
    predictions: Sequence[Prediction], pixels: np.ndarray, stages: Sequence[Stage], watch: Stopwatch
) -> List[Prediction]:
    """The predictions of a frame with what the stages say of each detection."""
    frame, looked = Picture.of(pixels), [0] * len(stages)
    made: List[Prediction] = []
    texts: List[Prediction] = []
    for prediction in predictions:
        if kinds.kind_of(prediction) != kinds.DETECTION:
            made.append(prediction)
            continue
        parts, quarters, is_read = [], 0, False
        for place, stage in enumerate(stages):
            if not stage.wants(prediction) or looked[place] >= stage.most:
                continue
            looked[place] += 1
            crop = _cropped(frame, prediction, stage)
            watch.lap("preprocess")
            if crop is None:
                continue
            crop = crop.turned(quarters)
            said = stage.model.look(crop.view, watch)
            if stage.turn:
                quarters += _quarters(said)
            elif stage.instead:
                is_read = True
                texts += [_standing_for(prediction, text) for text in said if kinds.kind_of(text) == kinds.TEXT]
            else:
                parts += [_placed(part, crop.matrix) for part in said]
        if not is_read:  # what there was no room to read stays a box
            made.append({**prediction, "parts": parts} if parts else prediction)
    return made + _in_reading_order(texts)


def vector(predictions: Sequence[Prediction]) -> Optional[np.ndarray]:
    """The first embedding among predictions and their parts, those of the best detection before the next; or None."""
    for prediction in predictions:
        if prediction.get("vector") is not None:
            return np.asarray(prediction["vector"])
        inner = vector(prediction.get("parts") or ())
        if inner is not None:
            return inner
    return None


# -- what a stage is given ---------------------------------------------------------------------------------------------


def _cropped(frame: Picture, detection: Prediction, stage: Stage) -> Optional[_Crop]:
    """The crop of a detection; None where nothing of the frame is in it."""
    if stage.align == "corners" and detection.get("corners"):
        return _straightened(frame.pixels, np.array(detection["corners"], np.float64), stage.margin)
    corners = _upright(detection, frame.pixels) if stage.align == "upright" else None
    if corners is not None:
        return _straightened(frame.pixels, corners, stage.margin)
    points = _face(detection) if stage.align == "face" else None
    if points is not None:
        return _aligned(frame.pixels, points)
    box = detection["box"]
    wider, higher = box["width"] * stage.margin, box["height"] * stage.margin
    try:
        view = frame.crop(box["x"] - wider, box["y"] - higher, box["width"] + 2 * wider, box["height"] + 2 * higher)
    except ValueError:
        return None
    return _Crop(view)


def _straightened(pixels: np.ndarray, corners: np.ndarray, margin: float) -> Optional[_Crop]:
    size = np.array([pixels.shape[1], pixels.shape[0]])
    places = corners * size
    middle = places.mean(axis=0)
    places = middle + (places - middle) * (1 + 2 * margin)
    width = round(max(np.linalg.norm(places[1] - places[0]), np.linalg.norm(places[2] - places[3])))
    height = round(max(np.linalg.norm(places[3] - places[0]), np.linalg.norm(places[2] - places[1])))
    if min(width, height) < 1:
        return None
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    forth = cv2.getPerspectiveTransform(places.astype(np.float32), target)
    straight = cv2.warpPerspective(
        pixels, forth, (width, height), borderMode=cv2.BORDER_REPLICATE, flags=cv2.INTER_CUBIC
    )
    crop = _Crop(Picture.of(straight), _to_fractions(np.linalg.inv(forth), (width, height), size))
    return crop.turned(1) if height >= _STANDS * width else crop


@dataclass(frozen=True)
class _Pose:
    """How something is cut out upright: by two of its points, the second above or right of the first."""

    first: str
    second: str
    is_above: bool
    scale: float
    """Of the square to the box's longer side."""
    lift: float = 0.0
    """By how much of the box's height the square lies higher."""
    around_first: bool = False
    """Whether the square is around the first point and as wide as twice their distance, in place of the box."""


_POSES = (
    _Pose("right_eye", "left_eye", is_above=False, scale=1.5),
    _Pose("wrist", "middle_finger_mcp", is_above=True, scale=2.6, lift=0.5),
    _Pose("hip_center", "full_body", is_above=True, scale=1.25, around_first=True),
)
"""MediaPipe's face, hand and pose landmark graphs."""


def _upright(detection: Prediction, pixels: np.ndarray) -> Optional[np.ndarray]:
    """The corners [4, 2] of the square around a face, a hand or a body; None where it does not have the points."""
    size = np.array([pixels.shape[1], pixels.shape[0]], np.float64)
    points = {
        point.get("name"): np.array([point["x"], point["y"]]) * size for point in detection.get("keypoints") or ()
    }
    pose = next((pose for pose in _POSES if pose.first in points and pose.second in points), None)
    if pose is None:
        return None
    along = points[pose.second] - points[pose.first]
    distance = float(np.linalg.norm(along))
    if distance == 0:
        return None
    x, y = along / distance
    right = np.array([-y, x]) if pose.is_above else np.array([x, y])
    down = np.array([-right[1], right[0]])
    box = detection["box"]
    width, height = box["width"] * size[0], box["height"] * size[1]
    middle = np.array([box["x"] * size[0] + width / 2, box["y"] * size[1] + height / 2]) - down * height * pose.lift
    side = max(width, height) * pose.scale
    if pose.around_first:
        middle, side = points[pose.first], 2 * distance * pose.scale
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return np.asarray((middle + signs @ np.array([right, down]) * side / 2) / size)


def _aligned(pixels: np.ndarray, points: np.ndarray) -> Optional[_Crop]:
    size = np.array([pixels.shape[1], pixels.shape[0]])
    template = _FACE if len(points) > _EYES_NOSE_MOUTH else np.vstack([_FACE[:3], _FACE[3:].mean(axis=0)])
    forth, _ = cv2.estimateAffinePartial2D(points * size, template, method=cv2.LMEDS)
    if forth is None:
        return None
    face = cv2.warpAffine(pixels, forth, (_FACE_SIDE, _FACE_SIDE), flags=cv2.INTER_LINEAR)
    back = np.linalg.inv(np.vstack([forth, [0, 0, 1]]))
    return _Crop(Picture.of(face), _to_fractions(back, (_FACE_SIDE, _FACE_SIDE), size))


def _face(detection: Prediction) -> Optional[np.ndarray]:
    """Eyes, nose and mouth, from the picture's left to its right; None where a detection does not have them."""
    points = np.array([(point["x"], point["y"]) for point in detection.get("keypoints") or ()])
    if len(points) < _EYES_NOSE_MOUTH:
        return None
    points = points[:5] if len(points) == 5 else points[:_EYES_NOSE_MOUTH]  # noqa: PLR2004 - two for the mouth
    for left in (0, 3):
        if left + 1 < len(points) and points[left, 0] > points[left + 1, 0]:
            points[[left, left + 1]] = points[[left + 1, left]]
    return points


def _quarters(said: Sequence[Prediction]) -> int:
    """How many turns to the left bring upright what a classifier says is turned by its best label's degrees."""
    label = str(said[0].get("label", "")) if said and said[0].get("score", 0.0) >= _SURE else ""
    digits = "".join(sign for sign in label if sign.isdigit())
    return int(digits) % 360 // _QUARTER if digits else 0


# -- back to the frame -------------------------------------------------------------------------------------------------


def _placing(view: Picture) -> np.ndarray:
    return np.array([[view.width, 0.0, view.x], [0.0, view.height, view.y], [0.0, 0.0, 1.0]])


def _to_fractions(back: np.ndarray, inner: Tuple[int, int], outer: np.ndarray) -> np.ndarray:
    """A mapping of pixels as one of fractions."""
    return np.asarray(np.diag([1 / outer[0], 1 / outer[1], 1.0]) @ back @ np.diag([inner[0], inner[1], 1.0]))


def _placed(part: Prediction, matrix: Optional[np.ndarray]) -> Prediction:
    """A part in fractions of the frame; a mask or a map of straightened pixels covers these alone and is left out."""
    if matrix is None:
        return part
    made: Dict[str, Any] = {key: value for key, value in part.items() if key not in ("mask", "map")}
    if made.get("box"):
        corners = _moved(made.get("corners") or _corners_of(made["box"]), matrix)
        made["box"], made["corners"] = _enclosing(corners), corners
    if made.get("keypoints"):
        moved = _moved([(point["x"], point["y"]) for point in made["keypoints"]], matrix)
        made["keypoints"] = [{**point, "x": x, "y": y} for point, (x, y) in zip(made["keypoints"], moved)]
    if made.get("parts"):
        made["parts"] = [_placed(inner, matrix) for inner in made["parts"]]
    return made


def _moved(points: Sequence[Sequence[float]], matrix: np.ndarray) -> List[List[float]]:
    moved = cv2.perspectiveTransform(np.array(points, np.float64).reshape(-1, 1, 2), matrix).reshape(-1, 2)
    return [[round(x, 6), round(y, 6)] for x, y in moved.tolist()]


def _corners_of(box: Mapping[str, float]) -> List[Tuple[float, float]]:
    left, top = box["x"], box["y"]
    right, bottom = left + box["width"], top + box["height"]
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _enclosing(corners: Sequence[Sequence[float]]) -> Dict[str, float]:
    places = np.clip(np.array(corners), 0.0, 1.0)
    (left, top), (right, bottom) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return {"x": left, "y": top, "width": round(right - left, 6), "height": round(bottom - top, 6)}


# -- writing -----------------------------------------------------------------------------------------------------------


def _standing_for(detection: Prediction, text: Prediction) -> Prediction:
    places = {key: detection[key] for key in ("box", "corners") if detection.get(key) is not None}
    return {**text, **places}


def _in_reading_order(texts: Sequence[Prediction]) -> List[Prediction]:
    """Lines from top to bottom, each from left to right; boxes are of one line where their middles are level."""
    lines: List[List[Prediction]] = []
    for text in sorted(texts, key=_middle):
        height = lines[-1][0]["box"]["height"] if lines else 0.0
        if lines and abs(_middle(text) - _middle(lines[-1][0])) < _SAME_LINE * min(height, text["box"]["height"]):
            lines[-1].append(text)
        else:
            lines.append([text])
    return [text for line in lines for text in sorted(line, key=lambda one: one["box"]["x"])]


def _middle(text: Prediction) -> float:
    return float(text["box"]["y"] + text["box"]["height"] / 2)
