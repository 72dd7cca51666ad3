"""How alike two vectors are: by the angle between them."""

from __future__ import annotations

import math

from agent.inference.predictions import Embedding, numbers_of

__all__ = ["cosine"]


def cosine(one: Embedding, other: Embedding) -> float:
    """The cosine of the angle between two vectors, from 1 (the same way) to 0 (across, apart, or of other sizes)."""
    if one.data == other.data and one.dtype == other.dtype:
        return 1.0
    ours, theirs = numbers_of(one) or (), numbers_of(other) or ()
    lengths = math.hypot(*ours) * math.hypot(*theirs)
    if len(ours) != len(theirs) or not math.isfinite(lengths) or not lengths:
        return 0.0
    return max(0.0, min(1.0, math.fsum(a * b for a, b in zip(ours, theirs, strict=True)) / lengths))
