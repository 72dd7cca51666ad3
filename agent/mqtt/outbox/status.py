"""What an outbox says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OutboxStatus"]


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How an outbox is; the counters begin with the process."""

    state: str
    """``disk``, or ``memory`` while the disk takes nothing."""
    reason: str = ""
    """Why it is not on disk, or what was set aside."""
    depth: int = 0
    """Messages that wait, those in flight included."""
    bytes: int = 0
    oldest_age_s: float | None = None
    in_flight: int = 0
    delivered: int = 0
    replayed: int = 0
    """Of the delivered those that had waited on disk."""
    superseded: int = 0
    """States in whose place a newer one went."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """By reason: ``outbox-full``, ``expired``, ``corrupt``, ``outbox-busy``, ``disk-full`` …, or why the broker
    refused them."""
    set_aside: str = ""
    """Where the last file is that could not be read."""
