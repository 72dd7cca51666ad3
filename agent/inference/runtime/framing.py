"""How a frame comes to lie on a network's canvas: which part of it is drawn where, and at what scale.

=============  =========================================================================================
``stretch``    the whole frame fills the canvas, out of proportion
``crop``       the middle of the frame fills it: the largest part of its proportions, or ``crop`` of that
``letterbox``  the whole frame as large as it fits, in the ``place`` of the canvas; the rest is padding
``shortest``   the canvas has the frame's proportions, its shorter side the given size
``longest``    the same, its longer side the given size
``height``     the canvas has the given height, the frame's proportions, and at least the given width
=============  =========================================================================================

The last three need a network that leaves sides open, and bound the longer side by ``max_side``; where the
file settles the sides they are a letterbox.  Sides that follow from the frame are rounded to ``multiple``.
Without ``upscale`` no frame is enlarged, without ``downscale`` none is made smaller.

Everything here is a pure function of sizes; a framing holds for each frame of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Tuple

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.decode import Fit

__all__ = ["PLACES", "RESIZES", "Framing", "Way", "cover", "framed"]

RESIZES = ("stretch", "crop", "letterbox", "shortest", "longest", "height")
PLACES = ("center", "top-left")

Size = Tuple[int, int]
"""Width and height in pixels."""
Rectangle = Tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


@dataclass(frozen=True)
class Way:
    """How frames are fitted; ``width`` and ``height`` are the canvas's, or the size asked for where that is open."""

    width: int
    height: int
    open_width: bool = False
    open_height: bool = False
    resize: str = "stretch"
    place: str = "center"
    crop: float = 1.0
    upscale: bool = True
    downscale: bool = True
    multiple: int = 1
    max_side: int = 2048

    @property
    def is_open(self) -> bool:
        """Whether the canvas's size follows from the frame's."""
        return (self.resize in ("shortest", "longest") and self.open_width and self.open_height) or (
            self.resize == "height" and self.open_width
        )


@dataclass(frozen=True)
class Framing:
    """Where ``part`` of a frame's pixels lies on the canvas, and how the two are told from each other."""

    canvas: Size
    part: Rectangle
    """Of the pixels, which may be fewer than the frame's."""
    inside: Rectangle
    """Of the canvas."""
    geometry: Geometry


def framed(way: Way, pixels: Size, frame: Size) -> Framing:
    """How a frame of which ``pixels`` were decoded lies on the canvas."""
    return _WAYS[way.resize](way, pixels, frame)


def cover(way: Way) -> Optional[Size]:
    """The (width, height) that a picture's pixels should have at least; None asks for all of them."""
    if not way.downscale:
        return None
    if way.resize == "crop":
        return _ceil(way.width / way.crop), _ceil(way.height / way.crop)
    if way.resize == "height":
        return 1, way.height
    if way.resize == "shortest" and way.is_open:
        side = min(way.width, way.height)
        return side, side
    return (way.width, way.height) if way.resize == "stretch" else Fit((way.width, way.height))


def _stretch(way: Way, pixels: Size, frame: Size) -> Framing:
    canvas = (way.width, way.height)
    return _framing(canvas, (0, 0, *pixels), (0, 0, *canvas), pixels, frame)


def _crop(way: Way, pixels: Size, frame: Size) -> Framing:
    width, height = pixels
    scale = min(frame[0] / way.width, frame[1] / way.height) * way.crop
    w, h = _side(way.width * scale * width / frame[0]), _side(way.height * scale * height / frame[1])
    part = ((width - w) // 2, (height - h) // 2, w, h)
    canvas = (way.width, way.height)
    return _framing(canvas, part, (0, 0, *canvas), pixels, frame)


def _letterbox(way: Way, pixels: Size, frame: Size) -> Framing:
    scale = min(way.width / frame[0], way.height / frame[1])
    if not way.upscale:
        scale = min(scale, 1.0)
    size = _side(frame[0] * scale), _side(frame[1] * scale)
    return _padded(way, (way.width, way.height), size, pixels, frame)


def _shortest(way: Way, pixels: Size, frame: Size) -> Framing:
    if not way.is_open:
        return _letterbox(way, pixels, frame)
    return _proportional(way, min(way.width, way.height) / min(frame), pixels, frame)


def _longest(way: Way, pixels: Size, frame: Size) -> Framing:
    if not way.is_open:
        return _letterbox(way, pixels, frame)
    return _proportional(way, max(way.width, way.height) / max(frame), pixels, frame)


def _height(way: Way, pixels: Size, frame: Size) -> Framing:
    """As high as the canvas; what is then too wide for it is squeezed, as a line of text is rather than cut."""
    width = _ceil(frame[0] * way.height / frame[1])
    canvas = way.width
    if way.open_width:
        canvas = _multiple(max(way.width, min(width, way.max_side)), way.multiple)
    return _padded(way, (canvas, way.height), (max(1, min(width, canvas)), way.height), pixels, frame)


_WAYS: Mapping[str, Callable[[Way, Size, Size], Framing]] = {
    "stretch": _stretch,
    "crop": _crop,
    "letterbox": _letterbox,
    "shortest": _shortest,
    "longest": _longest,
    "height": _height,
}


def _proportional(way: Way, scale: float, pixels: Size, frame: Size) -> Framing:
    """A canvas that the whole frame fills at that scale, within the way's bounds."""
    scale = min(scale, 1.0) if not way.upscale else scale
    scale = max(scale, 1.0) if not way.downscale else scale
    scale = min(scale, way.max_side / max(frame))
    most = max(1, way.max_side // way.multiple)
    width, height = (way.multiple * min(most, _side(side * scale / way.multiple)) for side in frame)
    return _framing((width, height), (0, 0, *pixels), (0, 0, width, height), pixels, frame)


def _padded(way: Way, canvas: Size, size: Size, pixels: Size, frame: Size) -> Framing:
    """The whole frame at that size in its place of the canvas."""
    left, top = (0, 0) if way.place == "top-left" else ((canvas[0] - size[0]) // 2, (canvas[1] - size[1]) // 2)
    return _framing(canvas, (0, 0, *pixels), (left, top, *size), pixels, frame)


def _framing(canvas: Size, part: Rectangle, inside: Rectangle, pixels: Size, frame: Size) -> Framing:
    """The framing with its geometry, which leads from the canvas through what is inside and the part to the frame."""
    start_x, start_y, width, height = (part[n] / pixels[n % 2] for n in range(4))
    geometry = Geometry(
        *frame,
        *canvas,
        start_x - width * inside[0] / inside[2],
        start_y - height * inside[1] / inside[3],
        width * canvas[0] / inside[2],
        height * canvas[1] / inside[3],
    )
    return Framing(canvas, part, inside, geometry)


def _multiple(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _side(length: float) -> int:
    """A whole number of pixels, and never none."""
    return max(1, round(length))


def _ceil(length: float) -> int:
    return -int(-length // 1)
