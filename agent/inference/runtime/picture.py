"""What a model's own preprocessing gets and gives: pixels that know where they lie in the frame.

A crop made here is known to everything that follows, so that boxes come out in fractions of the frame
whatever the network was shown.  Pixels that were moved (turned, straightened) cannot be traced back: they
become the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Tuple

import numpy as np

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.decode import Decoded

__all__ = ["Picture"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A part of the frame; ``x``, ``y``, ``width`` and ``height`` say which, in fractions of the frame."""

    pixels: np.ndarray
    """Height × width × 3, uint8, BGR; for a model's own step at the camera's full resolution."""
    frame: np.ndarray
    """The pixels of the whole frame, on which an annotated picture is drawn."""
    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0
    scale: Tuple[float, float] = (1.0, 1.0)
    """The camera's pixels for one of the frame's across and down, where it was decoded smaller."""

    @classmethod
    def of(cls, pixels: np.ndarray) -> Picture:
        """The whole of a frame."""
        return cls(pixels, pixels)

    @classmethod
    def decoded(cls, frame: Decoded) -> Picture:
        """The whole of a frame, of which fewer pixels may have been decoded."""
        rows, columns = frame.pixels.shape[:2]
        return cls(frame.pixels, frame.pixels, scale=(frame.width / columns, frame.height / rows))

    def crop(self, x: float, y: float, width: float, height: float) -> Picture:
        """The part of this picture at ``x``, ``y``, in fractions of it; raises ``ValueError`` where none is left."""
        rows, columns = self.pixels.shape[:2]
        left, right = (round(min(max(edge, 0.0), 1.0) * columns) for edge in (x, x + width))
        top, bottom = (round(min(max(edge, 0.0), 1.0) * rows) for edge in (y, y + height))
        if left >= right or top >= bottom:
            call = f"crop({x:g}, {y:g}, {width:g}, {height:g})"
            raise ValueError(f"{call} leaves nothing of the picture: give fractions of it, from 0 to 1")
        return replace(
            self,
            pixels=self.pixels[top:bottom, left:right],
            x=self.x + self.width * left / columns,
            y=self.y + self.height * top / rows,
            width=self.width * (right - left) / columns,
            height=self.height * (bottom - top) / rows,
        )

    def replace(self, pixels: np.ndarray) -> Picture:
        """The same part of the frame in other pixels, of any size: lighter, sharper, smaller."""
        return replace(self, pixels=pixels)

    def reframe(self, pixels: np.ndarray) -> Picture:
        """Pixels that are the frame from here on: turned, straightened; boxes will be fractions of them."""
        return Picture.of(pixels)

    @property
    def part(self) -> Decoded:
        """These pixels as a frame of their own."""
        return self._as_frame(self.pixels)

    @property
    def whole(self) -> Decoded:
        """The frame."""
        return self._as_frame(self.frame)

    def _as_frame(self, pixels: np.ndarray) -> Decoded:
        rows, columns = pixels.shape[:2]
        return Decoded(pixels, round(columns * self.scale[0]), round(rows * self.scale[1]))

    def placed(self, inner: Geometry) -> Geometry:
        """How the network's picture lies in the frame; ``inner`` says how it lies in these pixels."""
        frame = self.whole
        return replace(
            inner,
            width=frame.width,
            height=frame.height,
            offset_x=self.x + self.width * inner.offset_x,
            offset_y=self.y + self.height * inner.offset_y,
            extent_x=self.width * inner.extent_x,
            extent_y=self.height * inner.extent_y,
        )
