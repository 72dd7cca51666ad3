"""The owner's ``Verge`` block over the one that stands for AWS's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["over"]

_SOURCES: Final = ("topic", "directory", "camera")


def over(block: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The owner's own block over that of the keys, both in canonical spelling.

    ``options`` and ``run`` are merged key by key, where a null takes a key away.  So is an input of the same kind; one
    of another kind replaces the keys' input as a whole, interval included.  Everything else is replaced.

    >>> over({"input": {"camera": {"source": 0}, "interval_s": 9.0}}, {"input": {"topic": "cameras/+/frame"}})
    {'input': {'topic': 'cameras/+/frame'}}
    """
    merged = {**block, **own}
    for key in ("options", "run"):
        merged[key] = _merged(block.get(key), own.get(key))
    if "input" in own:
        merged["input"] = _inputs(block.get("input"), own["input"])
    return {key: value for key, value in merged.items() if value is not None}


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: value for key, value in {**one, **other}.items() if value is not None}
    return one if other is None else other


def _inputs(one: Any, other: Any) -> Any:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return other
    kinds = [kind for kind in _SOURCES if other.get(kind) is not None]
    if any(kind in one for kind in _SOURCES) and any(kind not in one for kind in kinds):
        return dict(other)
    return {**one, **other, **{kind: _merged(one.get(kind), other[kind]) for kind in kinds}}
