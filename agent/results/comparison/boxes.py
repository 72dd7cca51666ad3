"""How much two boxes cover of each other, upright or turned.

Places are fractions of the frame.  That the frame may be wider than high changes no overlap: both areas are stretched
alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from agent.inference.predictions import Box

__all__ = ["Point", "corners_of", "iou", "polygon_iou"]

Point: TypeAlias = tuple[float, float]


def iou(one: Box, other: Box) -> float:
    """Intersection over union, from 0 to 1; a box covers itself wholly, even one without an area.

    >>> iou(Box(0, 0, 1, 1), Box(0.5, 0, 1, 1))
    0.3333333333333333
    """
    if one == other:
        return 1.0
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0.0) * max(height, 0.0)
    union = one.width * one.height + other.width * other.height - common
    return common / union if union > 0 else 0.0


def polygon_iou(ones: Sequence[Point], others: Sequence[Point]) -> float:
    """As ``iou``, of the convex hulls of points in any order.

    >>> polygon_iou([(0, 0), (2, 0), (2, 2), (0, 2)], [(1, 0), (3, 0), (3, 2), (1, 2)])
    0.3333333333333333
    """
    ours, theirs = _hull(ones), _hull(others)
    if ours == theirs:
        return 1.0
    common = _area(_clipped(ours, theirs)) if len(ours) > 2 and len(theirs) > 2 else 0.0  # noqa: PLR2004 a triangle
    union = _area(ours) + _area(theirs) - common
    return min(1.0, common / union) if union > 0 else 0.0


def corners_of(box: Box) -> tuple[Point, ...]:
    """The corners of an upright box, clockwise from its top left."""
    right, bottom = box.x + box.width, box.y + box.height
    return (box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom)


def _hull(points: Sequence[Point]) -> list[Point]:
    """The corners of the convex hull in one direction, from the leftmost (Andrew's monotone chain)."""
    ordered = sorted({(x, y) for x, y in points})
    if len(ordered) < 3:  # noqa: PLR2004 a triangle
        return ordered
    return _chain(ordered)[:-1] + _chain(ordered[::-1])[:-1]


def _chain(ordered: Sequence[Point]) -> list[Point]:
    chain: list[Point] = []
    for point in ordered:
        while len(chain) > 1 and _side(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _side(begin: Point, end: Point, point: Point) -> float:
    """Positive on the inner side of an edge of a hull, negative outside it."""
    return (end[0] - begin[0]) * (point[1] - begin[1]) - (end[1] - begin[1]) * (point[0] - begin[0])


def _clipped(polygon: list[Point], window: list[Point]) -> list[Point]:
    """What lies in a convex window, cut off edge by edge (Sutherland and Hodgman)."""
    for begin, end in pairwise([*window, window[0]]):
        polygon = list(_cut(polygon, begin, end))
    return polygon


def _cut(polygon: list[Point], begin: Point, end: Point) -> Iterator[Point]:
    for before, after in pairwise([*polygon, *polygon[:1]]):
        here, there = _side(begin, end, before), _side(begin, end, after)
        if here >= 0:
            yield before
        if here * there < 0:
            share = here / (here - there)
            yield before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])


def _area(polygon: list[Point]) -> float:
    around = pairwise([*polygon, *polygon[:1]])
    return abs(sum(x * below - right * y for (x, y), (right, below) in around)) / 2
