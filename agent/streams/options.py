"""What the configuration says of a stream: where frames come from, which model, where results go."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.results.options import FileSinkOptions, FilterOptions, SnapshotOptions
from agent.sources.options import CameraOptions, DirectoryOptions
from agent.streams.queue import Policy
from agent.topics import RESULTS

__all__ = ["InputOptions", "OutputOptions", "SnapshotOutput", "StreamOptions"]

Count = Annotated[int, Meta(ge=1)]


class InputOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frames from topics, from a directory, or from a camera: exactly one of the three."""

    topic: str = ""
    """A filter; with wildcards, each topic is a camera."""
    directory: DirectoryOptions | None = None
    camera: CameraOptions | None = None
    interval_s: Annotated[float, Meta(ge=0, le=31_622_400)] = 0.0
    """Seconds between two frames of a camera, on a grid that does not drift; 0 takes them as they come."""
    transport: str = ""
    """Which broker, for topics in, answers and whatever names no other; empty is the first configured one."""
    qos: Literal[0, 1] = 0


class OutputOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results to a topic, or to a file."""

    topic: str = RESULTS
    """May hold ``{thing}``, ``{stream}``, ``{camera}`` and ``{label}``."""
    transport: str = ""
    qos: Literal[0, 1] = 1
    retain: bool = False
    expiry_s: int | None = None
    file: FileSinkOptions | None = None
    """Write JSON lines here instead of publishing."""
    log: bool = False
    """Write to the agent's log instead of publishing."""
    format: str = "native"
    filter: FilterOptions = FilterOptions()


class SnapshotOutput(SnapshotOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Annotated pictures to a topic, a folder or both."""

    topic: str | None = None
    """``verge/{thing}/snapshots/{stream}`` is the usual one; without it nothing is published."""
    transport: str = ""
    retain: bool = False


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stream."""

    model: str
    """A model of this configuration."""
    input: InputOptions
    outputs: tuple[OutputOptions, ...] = (OutputOptions(),)
    policy: Policy = Policy.LATEST
    depth: Count = 8
    """Frames that may wait per camera, for ``fifo`` and ``all``."""
    max_age_ms: Annotated[float, Meta(ge=0)] = 0
    """Frames older than this are dropped; 0 keeps any age."""
    max_cameras: Count = 256
    filter: FilterOptions = FilterOptions()
    """For every output; an output may filter further."""
    snapshots: SnapshotOutput | None = None
    drain_s: Annotated[float, Meta(ge=0)] = 5.0
    """How long frames in work may take to finish when the agent stops."""
