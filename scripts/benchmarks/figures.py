"""A measurement's figures for people, each beside what it is to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["table"]


def table(figures: Mapping[str, Any], aims: Mapping[str, tuple[str, Any]]) -> str:
    """A line each.

    >>> print(table({"lost": 0}, {"lost": ("=", 0)}))
    lost                               0       = 0
    """
    rows = ((name, value, " ".join(map(str, aims.get(name, ())))) for name, value in figures.items())
    return "\n".join(f"{name:<24}{value!s:>12}{aim:>10}".rstrip() for name, value, aim in rows)
