"""The colours of classes in a painting, which the worker paints with and a new manifest names."""

from __future__ import annotations

import colorsys

__all__ = ["PALETTE", "color"]

PALETTE = ("#FFFFFF", "#23A436", "#14A3B3", "#F76902", "#9380FF", "#BD10E0", "#467CE6")
"""Lookout for Vision's, in the order of the classes; the background's is the first."""
_GOLDEN = 0.618033988749895
_SATURATION, _VALUE, _MOST = 0.75, 0.85, 255


def color(place: int) -> str:
    """The colour of the class at a place; behind the palette's they are spread over the circle.

    >>> color(0), color(7)
    ('#FFFFFF', '#3DD936')
    """
    if place < len(PALETTE):
        return PALETTE[place]
    shares = colorsys.hsv_to_rgb(place * _GOLDEN % 1, _SATURATION, _VALUE)
    return "#" + "".join(f"{round(share * _MOST):02X}" for share in shares)
