"""How much two masks cover of each other: counted run by run, never pixel by pixel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

from agent.inference.masks import runs
from agent.inference.planes import bits
from agent.inference.predictions import Image, Mask

__all__ = ["mask_iou"]

Spans: TypeAlias = Sequence[tuple[int, int]]
"""Where a mask is 1, in order: from one place on, and before another."""


def mask_iou(one: Mask | Image, other: Mask | Image) -> float:
    """Intersection over union, from 0 to 1; of two empty masks 1, of one that cannot be read 0.

    Masks of different sizes cover the same frame: they are laid over each other.
    """
    if one == other:
        return 1.0
    ours, theirs = _spans(one), _spans(other)
    if ours is None or theirs is None:
        return 0.0
    if (one.width, one.height) == (other.width, other.height):
        common, sizes = _common(ours, theirs), (1, 1)
    else:
        common, sizes = _overlaid(one, ours, other, theirs), (other.width * other.height, one.width * one.height)
    union = _length(ours) * sizes[0] + _length(theirs) * sizes[1] - common
    return common / union if union else 1.0


def _spans(mask: Mask | Image) -> Spans | None:
    """The runs of 1, in pixels down the columns; None for what is no mask of its size."""
    if min(mask.width, mask.height) < 1:
        return None
    if isinstance(mask, Image):
        pixels = bits(mask)
        columns = None if pixels is None else b"".join(pixels[column :: mask.width] for column in range(mask.width))
        return None if columns is None else [run.span() for run in re.finditer(b"\1+", columns)]
    try:
        ends = list(accumulate(runs(mask), initial=0))
    except ValueError:
        return None
    return list(zip(ends[1::2], ends[2::2], strict=False))


def _common(ours: Spans, theirs: Spans) -> int:
    """How much of the one lies in the other."""
    common = here = there = 0
    while here < len(ours) and there < len(theirs):
        (begin, end), (start, stop) = ours[here], theirs[there]
        common += max(0, min(end, stop) - max(begin, start))
        if end < stop:
            here += 1
        else:
            there += 1
    return common


def _overlaid(one: Mask | Image, ours: Spans, other: Mask | Image, theirs: Spans) -> int:
    """As ``_common``, of two sizes: on a grid that both divide, of width × width by height × height."""
    mine, yours = _columns(one, ours, other.height), _columns(other, theirs, one.height)
    common = here = there = 0
    while here < one.width and there < other.width:
        left, right = max(here * other.width, there * one.width), min((here + 1) * other.width, (there + 1) * one.width)
        common += (right - left) * _common(mine[here], yours[there])
        if (here + 1) * other.width < (there + 1) * one.width:
            here += 1
        else:
            there += 1
    return common


def _columns(mask: Mask | Image, spans: Spans, scale: int) -> list[list[tuple[int, int]]]:
    """The spans of each column, each pixel ``scale`` high."""
    columns: list[list[tuple[int, int]]] = [[] for _ in range(mask.width)]
    for begin, end in spans:
        for column in range(begin // mask.height, -(-end // mask.height)):
            first = column * mask.height
            columns[column].append((max(begin - first, 0) * scale, min(end - first, mask.height) * scale))
    return columns


def _length(spans: Spans) -> int:
    return sum(end - begin for begin, end in spans)
