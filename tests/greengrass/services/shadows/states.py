"""States of shadows for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

__all__ = ["KEY", "SECTION", "STATE", "VALUE", "pruned"]

KEY = st.sampled_from(["a", "b", "c", "timestamp"])
_LEAF = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0]), st.text("xyé", max_size=3))
VALUE = st.recursive(
    st.one_of(_LEAF, st.lists(_LEAF, max_size=2)), lambda inner: st.dictionaries(KEY, inner, max_size=3), max_leaves=5
).filter(lambda value: _levels(value) <= 4)
SECTION = st.dictionaries(KEY, VALUE, max_size=3)
STATE = st.fixed_dictionaries({}, optional={"desired": SECTION, "reported": SECTION})


def pruned(value: Any) -> Any:
    """A value without what is empty in its objects."""
    if not isinstance(value, dict):
        return value
    kept = {key: pruned(inner) for key, inner in value.items()}
    return {key: inner for key, inner in kept.items() if inner != {}}


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    return 1 if isinstance(value, list) else 0
