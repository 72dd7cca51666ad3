"""How close the numbers of two tensors are."""

from __future__ import annotations

import math

from agent.inference.predictions import Tensor, numbers_of

__all__ = ["numbers_differ"]


def numbers_differ(one: Tensor, other: Tensor, *, rtol: float, atol: float) -> str:
    """What ``other`` has otherwise than ``one``, alike from either side; empty when every number is close."""
    if one.shape != other.shape:
        return f"{other.name!r} of shape {list(other.shape)}, not {list(one.shape)}"
    ours, theirs = numbers_of(one), numbers_of(other)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return "" if one == other else f"another {other.name!r}"
    far = [pair for pair in zip(ours, theirs, strict=True) if not _near(*pair, rtol, atol)]
    if not far:
        return ""
    # A NaN is as far as can be.
    wanted, got = max(far, key=lambda pair: math.inf if math.isnan(sum(pair)) else abs(pair[0] - pair[1]))
    return f"{other.name!r} with {got:.4g} where {wanted:.4g} is expected"


def _near(one: float, other: float, rtol: float, atol: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=rtol, abs_tol=atol)
