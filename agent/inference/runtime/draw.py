"""Predictions drawn onto a copy of the frame, for snapshots.

Everything is measured in a unit of the picture's size, so that a thumbnail and a 4K frame look alike.  A
class keeps its colour; text stands on a plate of that colour, dark or light by the colour's luminance,
and boxes carry a dark rim, so that both are seen on any picture.  OpenCV's fonts know ASCII alone.
"""

from __future__ import annotations

import colorsys
import unicodedata
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import kinds
from agent.inference.runtime.base import Prediction
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.kinds import kind_of

__all__ = ["annotate", "ascii_text", "colour", "encode"]

Colour = Tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK: Colour = (24, 24, 24)
_LIGHT: Colour = (255, 255, 255)
_PANEL: Colour = (32, 32, 32)
_GOLDEN = 0.618034
_PANEL_ROWS = 5
_MAX_TEXT = 48
_LEAST_UNIT = 0.6  # below it letters run together


def annotate(image: np.ndarray, predictions: Sequence[Prediction], max_side: Optional[int] = None) -> np.ndarray:
    """A new BGR picture with the predictions on it, shrunk first where a side exceeds ``max_side``."""
    canvas = _canvas(image, max_side)
    for prediction in reversed(predictions):  # the best one is drawn last, on top
        for key in ("mask", "map"):
            if prediction.get(key) is not None:
                _tint(canvas, prediction[key], prediction)
    boxed = [prediction for prediction in predictions if prediction.get("box") is not None]
    for prediction in reversed(boxed):
        _outline(canvas, prediction)
    taken: List[Tuple[int, int, int, int]] = []
    for prediction in boxed:
        _caption(canvas, prediction, taken)
    texts = [(prediction, _text(prediction)) for prediction in predictions if prediction.get("box") is None]
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
    """The BGR colour of a class: always the same, and far from its neighbours' (hues a golden section apart)."""
    hue = (0.33 + label_id * _GOLDEN) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
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


def _corners(canvas: np.ndarray, prediction: Prediction) -> Tuple[int, int, int, int]:
    height, width = canvas.shape[:2]
    box = prediction["box"]
    left, top = round(box["x"] * width), round(box["y"] * height)
    right, bottom = round((box["x"] + box["width"]) * width), round((box["y"] + box["height"]) * height)
    return left, top, min(right, width - 1), min(bottom, height - 1)


def _outline(canvas: np.ndarray, prediction: Prediction) -> None:
    left, top, right, bottom = _corners(canvas, prediction)
    line = max(2, round(2 * _unit(canvas)))
    cv2.rectangle(canvas, (left, top), (right, bottom), _DARK, line + 2 * max(1, line // 4))
    cv2.rectangle(canvas, (left, top), (right, bottom), _colour_of(prediction), line)


def _caption(canvas: np.ndarray, prediction: Prediction, taken: List[Tuple[int, int, int, int]]) -> None:
    """The label's plate on the box's upper edge, inside the picture, moved down while it hides a better one's."""
    left, top, _, _ = _corners(canvas, prediction)
    text = _text(prediction)
    width, height = _plate(canvas, text)
    x = max(0, min(left, canvas.shape[1] - width))
    y = max(0, top - height)
    while any(x < right and x + width > left and y < bottom and y + height > top for left, top, right, bottom in taken):
        y += height
    y = min(y, max(0, canvas.shape[0] - height))
    taken.append((x, y, x + width, y + height))
    fill = _colour_of(prediction)
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), fill, cv2.FILLED)
    _write(canvas, text, x, y, _DARK if _luminance(fill) > 110 else _LIGHT)  # noqa: PLR2004 - where both read equally well


def _panel(canvas: np.ndarray, rows: Sequence[Tuple[Prediction, str]]) -> None:
    """What has no box, at the top left on a darkened ground, a bar of the score's length behind each."""
    width = max(_plate(canvas, text)[0] for _, text in rows)
    height = _plate(canvas, "")[1]
    margin = round(6 * _unit(canvas))
    area = canvas[margin : margin + height * len(rows), margin : margin + width]
    area[:] = (area * 0.25 + np.array(_PANEL) * 0.75).astype(np.uint8)
    for row, (prediction, text) in enumerate(rows):
        y = margin + row * height
        share = min(1.0, prediction.get("score", 0.0))
        bar = canvas[y + 2 : y + height - 2, margin : margin + round(width * share)]
        bar[:] = (bar * 0.45 + np.array(_colour_of(prediction)) * 0.45).astype(np.uint8)
        _write(canvas, text, margin, y, _LIGHT)


def _tint(canvas: np.ndarray, plane: np.ndarray, prediction: Prediction) -> None:
    """Mix the class's colour in where a mask is set, or as strongly as a map says."""
    height, width = canvas.shape[:2]
    strength = plane.astype(np.float32) * (1.0 if plane.dtype == np.bool_ else 1 / 255)
    share = 0.45 * cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    canvas[:] = (canvas * (1 - share) + np.array(_colour_of(prediction)) * share).astype(np.uint8)


def _colour_of(prediction: Prediction) -> Colour:
    return colour(prediction.get("label_id", 0))


def _text(prediction: Prediction) -> str:
    """A prediction's caption; empty for kinds that are not for eyes."""
    text = _TEXTS.get(kind_of(prediction))
    return text(prediction) if text else ""


def _scored(words: str, prediction: Prediction) -> str:
    return f"{ascii_text(words)} {prediction['score']:.0%}" if "score" in prediction else ascii_text(words)


def _label_text(prediction: Prediction) -> str:
    return _scored(prediction["label"], prediction)


_TEXTS: Mapping[str, Callable[[Prediction], str]] = {
    kinds.CLASSIFICATION: _label_text,
    kinds.DETECTION: _label_text,
    kinds.SEGMENTATION: _label_text,
    kinds.ANOMALY: lambda prediction: _scored("anomaly" if prediction["anomalous"] else "normal", prediction),
    kinds.TEXT: lambda prediction: _scored(prediction["text"], prediction),
}


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
