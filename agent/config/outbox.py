"""What an outbox can be told; the field names are the configuration's keys."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["OutboxOptions"]

_MIB = 1024 * 1024

Positive = Annotated[int, msgspec.Meta(ge=1)]


class OutboxOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[transports.X.outbox]``: what waits on disk for that broker, and what gives way when there is no room."""

    path: str = ""
    """The database; empty: ``outbox/<transport>.db`` in the agent's data folder."""
    topics: tuple[str, ...] = ("#", "$aws/things/+/greengrassv2/health/json")
    """What goes through the outbox, if its QoS is 1 or 2.  As in MQTT, ``#`` does not stand for ``$aws/…``: Jobs and
    shadows are conversations that repeat what was not answered, and old questions must not be asked again.  Fleet
    status messages are told once."""
    max_bytes: Positive = 512 * _MIB
    """Bound of what waits, as rows on disk."""
    max_age_s: Annotated[float, msgspec.Meta(gt=0)] = 7 * 86_400.0
    policy: Literal["drop-oldest", "drop-new", "newest-per-stream"] = "drop-oldest"
    """What gives way of the lowest rank there is; ``newest-per-stream``: the oldest with a newer one on its topic."""
    first: tuple[str, ...] = (
        "verge/+/deployments/#", "verge/+/status", "verge/+/components/+", "verge/+/streams/+",
        "verge/+/transports/+", "$aws/#",
    )  # fmt: skip
    """Sent before everything else, and the last to give way."""
    last: tuple[str, ...] = ("verge/+/snapshots/#",)
    """Sent after everything else, and the first to give way."""
    order: Literal["topic", "live-first"] = "topic"
    """``live-first``: what is published while the link is up need not wait for what is replayed on its own topic."""
    live_per_replayed: Positive = 4
    """Where both wait, so many live messages are sent for each replayed one."""
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64
    """Messages handed to the transport and not acknowledged."""
    memory_bytes: Positive = 8 * _MIB
    """Bound of what is held in memory while the disk takes nothing."""
