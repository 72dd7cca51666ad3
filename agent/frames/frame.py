"""A picture as it travels: still encoded, its size known from its header, never decoded in the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Frame", "Picture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image found in a payload: its encoded bytes and what its header says."""

    data: bytes | memoryview
    encoding: str
    """``jpeg``, ``png``, ``webp``, ``bmp`` or ``npy``; ``rgb`` is pixels of this width and height, without padding."""
    width: int
    height: int
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What stood beside the image in a JSON envelope, small values only."""
    captured_at: float | None = None
    """Seconds since the epoch, where the sender says it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture that a stream received from one of its cameras."""

    stream: str
    camera: str
    topic: str
    sequence: int
    picture: Picture
    received_at: float
    """Wall clock, seconds since the epoch."""
    arrived: float
    """Monotonic clock, seconds; what ages and latencies are measured from."""
    response_topic: str | None = None
    correlation_data: bytes | None = None
    packet_id: int = 0
    retained: bool = False
    """The broker had it from before the stream subscribed: the last picture of its camera, of unknown age."""
