"""What waits on disk for a broker: the tables ``[transports.X.outbox]``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.config.bounds import MIB, Count, DiskBytes, MemoryBytes, OptionalPath, Seconds, Text
from agent.topics import valid_filter

__all__ = ["OutboxOptions", "check_filters"]


class OutboxOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[transports.X.outbox]``: what waits on disk for that broker, and what gives way when there is no room."""

    path: OptionalPath = ""
    """The database; empty: ``outbox/<transport>.db`` in the agent's data folder."""
    topics: tuple[Text, ...] = ("#", "$aws/things/+/greengrassv2/health/json")
    """What goes through the outbox, if its QoS is 1 or 2.  As in MQTT, ``#`` does not stand for ``$aws/…``: Jobs and
    shadows are conversations that repeat what was not answered, and old questions must not be asked again.  Fleet
    status messages are sent once."""
    max_bytes: DiskBytes = 512 * MIB
    """Bound of what waits, as rows on disk."""
    max_age_s: Seconds = 7 * 86_400.0
    policy: Literal["drop-oldest", "drop-new", "newest-per-stream"] = "drop-oldest"
    """What gives way of the lowest rank there is; ``newest-per-stream``: the oldest with a newer one on its topic."""
    first: tuple[Text, ...] = (
        "verge/+/deployments/#", "verge/+/status", "verge/+/components/+", "verge/+/streams/+",
        "verge/+/transports/+", "$aws/#",
    )  # fmt: skip
    """Sent before everything else, and the last to give way."""
    last: tuple[Text, ...] = ("verge/+/snapshots/#",)
    """Sent after everything else, and the first to give way."""
    order: Literal["topic", "live-first"] = "topic"
    """``live-first``: what is published while the link is up need not wait for what is replayed on its own topic."""
    live_per_replayed: Count = 4
    """Where both wait, so many live messages are sent for each replayed one."""
    in_flight: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Messages handed to the transport and not acknowledged."""
    memory_bytes: MemoryBytes = 8 * MIB
    """Bound of what is held in memory while the disk takes nothing."""

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        check_filters((*self.topics, *self.first, *self.last))


def check_filters(filters: tuple[str, ...]) -> None:
    """Raise ``ValueError`` for what is no topic filter."""
    for topic_filter in filters:
        if not valid_filter(topic_filter):
            raise ValueError(f"{topic_filter!r} is no MQTT topic filter")
