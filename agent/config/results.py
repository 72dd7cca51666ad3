"""What the configuration says about results; unknown keys are refused, defaults run."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

__all__ = ["FileSinkOptions", "FilterOptions", "SnapshotOptions"]

Rate: TypeAlias = Annotated[float, Meta(gt=0)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Meta(ge=1)]


class FilterOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which predictions and which results are published."""

    labels: tuple[str, ...] = ()
    """Only these; empty means all."""
    exclude: tuple[str, ...] = ()
    """Never these, even where ``labels`` names them."""
    min_score: Fraction = 0.0
    keep_empty: bool = True
    """Whether a result without predictions is published."""
    on_change: bool = False
    """Publish only where the set of labels differs from the camera's last published one."""
    max_rate_hz: Rate | None = None
    """At most this many results per second and camera; 0.1 is one in ten seconds."""


class FileSinkOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results as JSON lines in a file that is rotated by size."""

    path: str
    max_bytes: Annotated[int, Meta(ge=4096)] = 10 * 1024 * 1024
    keep: Count = 5
    """Files in all, the one being written included."""


class SnapshotOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Annotated pictures, beside the results."""

    folder: str | None = None
    """Where pictures are kept; without it they are only published."""
    keep: Count = 100
    """Pictures in the folder; past that the oldest is removed."""
    max_rate_hz: Rate = 1.0
    """At most this many per second and camera."""
    max_side: Count | None = 1280
    """Longer pictures are scaled down to it, in pixels."""
    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Of the JPEG."""
