"""How alike two predictions have to be to count as the same: bounds for each measure, the same for every room.

A likeness is from 0 (nothing in common) to 1 (the same), so that 0 asks for nothing and 1 for everything.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

__all__ = ["ABSOLUTE", "MIN_IOU", "RELATIVE", "SCORE", "Share", "Slack", "Strict", "Tolerances"]

MIN_IOU: Final = 0.5
SCORE: Final = 0.1
RELATIVE: Final = 1e-2
ABSOLUTE: Final = 1e-3
"""How close two numbers of a tensor are: a converted or requantised model answers a little differently."""

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Slack: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read strictly, as everything that a person writes."""


class Tolerances(Strict, frozen=True):
    """The least likeness by each measure, and how far a number may be off."""

    iou: Share = MIN_IOU
    """Of boxes, turned boxes and masks: what both cover in what either covers."""
    oks: Share = 0.5
    """Of key points: COCO's similarity."""
    cosine: Share = 0.99
    """Of embeddings."""
    text: Share = 1.0
    """The share of its characters that need no edit."""
    map: Share = 0.9
    """Of maps: the mean difference of their values, in their range, taken from 1."""
    tolerance: Slack = SCORE
    """How far a score may be below the expected one, or that of an anomaly on either side of it."""
    atol: Slack = ABSOLUTE
    rtol: Slack = RELATIVE
    """Of the numbers of a tensor: ``atol + rtol × |number|``."""
