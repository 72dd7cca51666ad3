"""What is laid over a whole picture: masks in the colour of their class, maps in a scale of colours.

Both come at a size of their own and cover the frame; the BGR picture is painted in place.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import cv2
import numpy as np

__all__ = ["heat", "scale", "shades", "tint"]

Colour = Tuple[int, int, int]

_TINT = 0.4
_HEAT = 0.7
_SHADES = 0.65
_HALF = 127
_FULL = 255
_HOT = cv2.COLORMAP_TURBO
_DEEP = cv2.COLORMAP_INFERNO


def tint(canvas: np.ndarray, mask: np.ndarray, colour: Colour, line: int) -> None:
    """Mix a colour in where a mask is set, and follow its edge with a line."""
    inside = _fitted(mask.astype(np.uint8) * _FULL, canvas)
    inside = np.asarray(cv2.threshold(inside, _HALF, _FULL, cv2.THRESH_BINARY)[1])
    left, top, width, height = cv2.boundingRect(inside)
    if not width:
        return
    part, inside = canvas[top : top + height, left : left + width], inside[top : top + height, left : left + width]
    mixed = np.arange(_FULL + 1)[None, :, None] * (1 - _TINT) + np.array(colour) * _TINT
    # Into the canvas, many times as fast as NumPy's indexing.
    cv2.copyTo(cv2.LUT(part, mixed.astype(np.uint8)), inside, part)
    _follow(canvas, inside, (left, top), colour, line)


def heat(canvas: np.ndarray, levels: np.ndarray, edge: Optional[float], line: int) -> None:
    """Lay a map over the picture, the stronger the higher it is; a line encloses what reaches ``edge`` (0 to 1)."""
    fitted = _fitted(levels, canvas)
    share = fitted.astype(np.float32) * (_HEAT / _FULL)
    canvas[:] = cv2.blendLinear(canvas, cv2.applyColorMap(fitted, _HOT), 1 - share, share)
    if edge is not None:
        inside = (fitted >= round(edge * _FULL)).astype(np.uint8)
        _follow(canvas, inside, (0, 0), (255, 255, 255), line)


def shades(canvas: np.ndarray, levels: np.ndarray) -> None:
    """Lay a map over the picture, equally strong everywhere: near is bright where high numbers are near."""
    coloured = cv2.applyColorMap(_fitted(levels, canvas), _DEEP)
    canvas[:] = cv2.addWeighted(canvas, 1 - _SHADES, coloured, _SHADES, 0)


def scale(width: int, height: int) -> np.ndarray:
    """The colours of ``shades`` from low to high, as a picture."""
    levels = np.linspace(0, _FULL, max(width, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(np.repeat(levels[None], max(height, 1), axis=0), _DEEP))


def _fitted(plane: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape[:2]
    smaller = plane.shape[0] > height or plane.shape[1] > width
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=how))


def _follow(canvas: np.ndarray, inside: Any, offset: Tuple[int, int], colour: Colour, line: int) -> None:
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA)
