"""Predictions drawn onto a copy of the frame, for snapshots.

::

    maps, masks → outlines and key points → captions at their places → the rest in a panel

Everything is measured in a unit of the picture's size, so that a thumbnail and a 4K frame look alike.  A
class keeps its colour; text stands on a plate of that colour, dark or light by the colour's luminance,
and lines carry a dark rim, so that both are seen on any picture.  The parts of a detection are drawn where
they are, and those without a place are named in its caption.  OpenCV's fonts know ASCII alone.
"""

from __future__ import annotations

import colorsys
import unicodedata
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import kinds, overlays, skeletons
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.kinds import kind_of

__all__ = ["annotate", "ascii_text", "colour", "encode"]

Colour = Tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK: Colour = (24, 24, 24)
_LIGHT: Colour = (255, 255, 255)
_PANEL: Colour = (32, 32, 32)
_ALARM: Colour = (40, 40, 220)
_CALM: Colour = (80, 170, 60)
_GOLDEN = 0.618034
_TONES = ((0.0, 0.75, 0.95), (0.18, 0.5, 1.0), (0.36, 0.95, 0.6))
"""Of the hue, the saturation and the value; hues come near again after eight classes, in another tone."""
_TONE_OF = 8
_PANEL_ROWS = 8
_MAX_TEXT = 48
_BACKGROUND = "background"
"""A class of many networks for what is none of the others; its mask is not drawn."""
_LEAST_UNIT = 0.6  # below it letters run together
_SEEN = 0.3
"""A key point of a lower score is not drawn."""
_MANY_POINTS = 40
"""From so many on they are a mesh, and small."""


def annotate(image: np.ndarray, predictions: Sequence[Prediction], max_side: Optional[int] = None) -> np.ndarray:
    """A new BGR picture with the predictions on it, shrunk first where a side exceeds ``max_side``."""
    canvas = _canvas(image, max_side)
    drawn = list(_drawn(predictions))
    for prediction, ink in reversed(drawn):  # the best one is drawn last, on top
        _cover(canvas, prediction, ink)
    for prediction, ink in reversed(drawn):
        _outline(canvas, prediction, ink)
        _points(canvas, prediction, ink)
    taken: List[Tuple[int, int, int, int]] = []
    for prediction, ink in drawn:
        corners, words = _place(canvas, prediction), _words(prediction)
        if corners is not None and words:
            _caption(canvas, words, corners, ink, taken)
    texts = [(prediction, _words(prediction)) for prediction in predictions if _place(canvas, prediction) is None]
    rows = [row for row in texts if row[1]][:_PANEL_ROWS]
    if rows:
        _panel(canvas, rows)
    return canvas


def encode(image: np.ndarray, quality: int = 80) -> bytes:
    """The picture as JPEG; raises ``ModelError`` where OpenCV cannot encode it."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ModelError("snapshot-failed", f"a picture of shape {image.shape} could not be encoded as JPEG")
    return bytes(data)


def colour(label_id: int) -> Colour:
    """The BGR colour of a class: always the same, and far from those near it (hues a golden section apart)."""
    shift, saturation, value = _TONES[label_id // _TONE_OF % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label_id * _GOLDEN + shift) % 1.0, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def ascii_text(text: str) -> str:
    """``text`` in printable ASCII: accents fall away, other signs become ``?``, long texts are cut."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    shown = "".join(sign if " " <= sign <= "~" else "?" for sign in plain)
    return shown if len(shown) <= _MAX_TEXT else shown[: _MAX_TEXT - 3] + "..."


def _canvas(image: np.ndarray, max_side: Optional[int]) -> np.ndarray:
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width)) if max_side else 1.0
    if factor < 1.0:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        canvas: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    else:
        canvas = image.copy()
    return np.asarray(cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR) if canvas.ndim == 2 else canvas)  # noqa: PLR2004 - grey


def _unit(canvas: np.ndarray) -> float:
    """What sizes are measured in: 1 for a picture of 640×480."""
    height, width = canvas.shape[:2]
    return float(max(_LEAST_UNIT, (height * width) ** 0.5 / 554))


def _drawn(predictions: Sequence[Prediction], owner: Optional[Colour] = None) -> Iterator[Tuple[Prediction, Colour]]:
    """Each prediction and its colour, and after it its parts, which without a class of their own have its colour."""
    for prediction in predictions:
        ink = owner if owner is not None and prediction.get("label_id") is None else _colour_of(prediction)
        yield prediction, ink
        yield from _drawn(prediction.get("parts") or (), ink)


# -- what covers an area, and lines ------------------------------------------------------------------------------------


def _cover(canvas: np.ndarray, prediction: Prediction, ink: Colour) -> None:
    if prediction.get("mask") is not None and str(prediction.get("label")).strip("_ ").lower() != _BACKGROUND:
        overlays.tint(canvas, prediction["mask"], ink, _line(canvas))
    levels = prediction.get("map")
    if levels is not None and kind_of(prediction) == kinds.ANOMALY:
        edge = prediction.get("threshold") if prediction["anomalous"] else None
        overlays.heat(canvas, levels, edge, _line(canvas))
    elif levels is not None:
        overlays.shades(canvas, levels)


def _outline(canvas: np.ndarray, prediction: Prediction, ink: Colour) -> None:
    corners, line = _frame(canvas, prediction), _line(canvas)
    if corners is not None:
        cv2.polylines(canvas, [corners], True, _DARK, line + 2 * _rim(line))
        cv2.polylines(canvas, [corners], True, ink, line)


def _points(canvas: np.ndarray, prediction: Prediction, ink: Colour) -> None:
    points = prediction.get("keypoints") or ()
    places = [_pixel(canvas, point["x"], point["y"]) for point in points]
    seen = [point.get("score") is None or point["score"] >= _SEEN for point in points]
    line = _line(canvas)
    limbs = [(places[one], places[other]) for one, other in skeletons.limbs(points) if seen[one] and seen[other]]
    for width, shade in ((line + 2 * _rim(line), _DARK), (line, ink)):
        for one, other in limbs:
            cv2.line(canvas, one, other, shade, width, cv2.LINE_AA)
    radius = max(1, line // 2) if len(points) >= _MANY_POINTS else line + 1
    for place in (place for place, is_seen in zip(places, seen) if is_seen):
        if radius > line:
            cv2.circle(canvas, place, radius + _rim(line), _DARK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, place, radius, _LIGHT if limbs else ink, cv2.FILLED, cv2.LINE_AA)


def _frame(canvas: np.ndarray, prediction: Prediction) -> Optional[np.ndarray]:
    """The four corners of a box or a turned box in pixels; None where there is none."""
    corners, box = prediction.get("corners"), prediction.get("box")
    if corners is not None:
        return np.array([_pixel(canvas, x, y) for x, y in corners], np.int32)
    if box is None:
        return None
    left, top = _pixel(canvas, box["x"], box["y"])
    right, bottom = _pixel(canvas, box["x"] + box["width"], box["y"] + box["height"])
    right, bottom = min(right, canvas.shape[1] - 1), min(bottom, canvas.shape[0] - 1)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.int32)


def _place(canvas: np.ndarray, prediction: Prediction) -> Optional[np.ndarray]:
    """Where a prediction is, as some points in pixels: its box, or its key points; None where it has no place."""
    frame, points = _frame(canvas, prediction), prediction.get("keypoints")
    if frame is not None or not points:
        return frame
    return np.array([_pixel(canvas, point["x"], point["y"]) for point in points], np.int32)


def _pixel(canvas: np.ndarray, x: float, y: float) -> Tuple[int, int]:
    height, width = canvas.shape[:2]
    return round(x * width), round(y * height)


# -- words -------------------------------------------------------------------------------------------------------------


def _caption(
    canvas: np.ndarray, words: str, corners: np.ndarray, ink: Colour, taken: List[Tuple[int, int, int, int]]
) -> None:
    """A plate on the upper edge of a place, inside the picture, moved down while it hides a better one's."""
    left, top = corners.min(axis=0).tolist()
    width, height = _plate(canvas, words)
    x = max(0, min(left, canvas.shape[1] - width))
    y = max(0, top - height)
    while any(x < right and x + width > left and y < bottom and y + height > top for left, top, right, bottom in taken):
        y += height
    y = min(y, max(0, canvas.shape[0] - height))
    taken.append((x, y, x + width, y + height))
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), ink, cv2.FILLED)
    _write(canvas, words, x, y, _DARK if _luminance(ink) > 110 else _LIGHT)  # noqa: PLR2004 - where both read equally well


def _panel(canvas: np.ndarray, rows: Sequence[Tuple[Prediction, str]]) -> None:
    """What has no place, at the top left on a darkened ground, a bar of the score's length behind each."""
    width = max(_plate(canvas, words)[0] for _, words in rows)
    height = _plate(canvas, "")[1]
    margin = round(6 * _unit(canvas))
    area = canvas[margin : margin + height * len(rows), margin : margin + width]
    area[:] = (area * 0.25 + np.array(_PANEL) * 0.75).astype(np.uint8)
    for row, (prediction, words) in enumerate(rows):
        y = margin + row * height
        bar = canvas[y + 2 : y + height - 2, margin : margin + round(width * _share(prediction))]
        if kind_of(prediction) == kinds.MAP and bar.size:
            bar[:] = (overlays.scale(bar.shape[1], bar.shape[0]) * 0.7).astype(np.uint8)
        else:
            bar[:] = (bar * 0.45 + np.array(_colour_of(prediction)) * 0.45).astype(np.uint8)
            canvas[y + 2 : y + height - 2, margin : margin + _line(canvas)] = _colour_of(prediction)
        _write(canvas, words, margin, y, _LIGHT)


def _share(prediction: Prediction) -> float:
    """How long a bar is behind a prediction's words, 0 to 1."""
    score = prediction.get("score", prediction.get("similarity"))
    if score is None:
        return 1.0 if kind_of(prediction) in (kinds.MAP, kinds.SEGMENTATION) else 0.0
    return min(1.0, max(0.0, float(score)))


def _colour_of(prediction: Prediction) -> Colour:
    if kind_of(prediction) == kinds.ANOMALY:
        return _ALARM if prediction["anomalous"] else _CALM
    return colour(prediction.get("label_id") or 0)


def _words(prediction: Prediction) -> str:
    """A prediction's caption, with its parts that have no place of their own; empty for what is not for eyes."""
    words = _TEXTS.get(kind_of(prediction))
    own = words(prediction) if words else ""
    parts = [_words(part) for part in prediction.get("parts") or () if not _has_place(part)]
    return ": ".join(filter(None, (own, ", ".join(filter(None, parts)))))


def _has_place(prediction: Prediction) -> bool:
    return any(prediction.get(key) is not None for key in ("box", "corners", "keypoints"))


def _scored(words: str, prediction: Prediction) -> str:
    score = prediction.get("score")
    return ascii_text(words) if score is None else f"{ascii_text(words)} {score:.0%}"


def _label_text(prediction: Prediction) -> str:
    return _scored(prediction.get("label") or "", prediction)


def _area_text(prediction: Prediction) -> str:
    area = prediction.get("area")
    share = float(np.mean(prediction["mask"])) if area is None else area
    return f"{_label_text(prediction)}, area {share:.0%}"


def _name_text(prediction: Prediction) -> str:
    name, similarity = prediction.get("name"), prediction.get("similarity")
    if not name:
        return ""
    return ascii_text(name) if similarity is None else f"{ascii_text(name)} {similarity:.2f}"


def _range_text(prediction: Prediction) -> str:
    words = f"{prediction['minimum']:.4g} to {prediction['maximum']:.4g} {prediction.get('unit') or ''}"
    return ascii_text(words.rstrip())


_TEXTS: Mapping[str, Callable[[Prediction], str]] = {
    kinds.CLASSIFICATION: _label_text,
    kinds.DETECTION: _label_text,
    kinds.SEGMENTATION: _area_text,
    kinds.KEYPOINTS: lambda prediction: _label_text(prediction) if prediction.get("label") else "",
    kinds.ANOMALY: lambda prediction: _scored("anomaly" if prediction["anomalous"] else "normal", prediction),
    kinds.TEXT: lambda prediction: _scored(prediction["text"], prediction),
    kinds.EMBEDDING: _name_text,
    kinds.MAP: _range_text,
}


def _line(canvas: np.ndarray) -> int:
    return max(2, round(2 * _unit(canvas)))


def _rim(line: int) -> int:
    return max(1, line // 4)


def _scale(canvas: np.ndarray) -> Tuple[float, int, int]:
    """(font scale, thickness, padding)."""
    unit = _unit(canvas)
    return 0.55 * unit, max(1, round(1.2 * unit)), max(2, round(5 * unit))


def _plate(canvas: np.ndarray, text: str) -> Tuple[int, int]:
    """The size of a text with its padding; every text of a picture has the same height."""
    scale, thickness, padding = _scale(canvas)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    (_, height), below = cv2.getTextSize("Ag", _FONT, scale, thickness)
    return width + 2 * padding, height + below + 2 * (padding // 2)


def _write(canvas: np.ndarray, text: str, x: int, y: int, ink: Colour) -> None:
    scale, thickness, padding = _scale(canvas)
    (_, height), _ = cv2.getTextSize("Ag", _FONT, scale, thickness)
    cv2.putText(canvas, text, (x + padding, y + padding // 2 + height), _FONT, scale, ink, thickness, cv2.LINE_AA)


def _luminance(bgr: Colour) -> float:
    blue, green, red = bgr
    return 0.114 * blue + 0.587 * green + 0.299 * red
