"""What the configuration says of a stream: where frames come from, which model, where results go."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from agent.config.results import FileSinkOptions, FilterOptions, SnapshotOptions
from agent.config.sources import EXTENSIONS, CameraOptions, DirectoryOptions, is_pattern
from agent.topics import RESULTS, valid_filter

__all__ = [
    "InputOptions",
    "Limits",
    "Objection",
    "OutputOptions",
    "Policy",
    "SnapshotOutput",
    "StreamOptions",
    "objection",
]

Count = Annotated[int, Meta(ge=1)]
_SHORTEST_S = 0.01


class Policy(enum.StrEnum):
    """What happens to a frame that finds no room."""

    LATEST = "latest"
    FIFO = "fifo"
    ALL = "all"


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


class Objection(NamedTuple):
    """What is wrong with an input: the key it is about (empty: the input), a sentence, a hint, an error code."""

    key: str
    said: str
    hint: str
    code: str


def objection(options: InputOptions) -> Objection | None:
    """What is wrong with an input beyond its types, if anything is."""
    given = [bool(options.topic), options.directory is not None, options.camera is not None]
    if sum(given) != 1:
        said = "names no source" if not any(given) else "names more than one source"
        return Objection("", said, "give exactly one of topic, directory and camera", "input-source")
    if options.topic and not valid_filter(options.topic):
        hint = "+ and # stand for whole levels, and # for the last ones only"
        return Objection("topic", f"{options.topic!r} is no MQTT topic filter", hint, "bad-topic")
    if 0 < options.interval_s < _SHORTEST_S:
        hint = f"0 takes frames as they come; the shortest interval is {_SHORTEST_S:g}"
        return Objection("interval_s", f"{options.interval_s:g} is too short", hint, "bad-interval")
    if options.directory is not None:
        return _of_directory(options.directory)
    if options.camera is not None and options.camera.source == "":
        return Objection("camera.source", "is empty", "an index, a device, a URL or a file", "bad-camera")
    return None


def _of_directory(options: DirectoryOptions) -> Objection | None:
    if not options.path:
        return Objection("directory.path", "is empty", "name the folder of the pictures", "bad-directory")
    name = options.name
    if not name or "/" in name or name in {".", ".."} or "\0" in name + options.path:
        hint = "one name or pattern, without folders: those belong to path"
        return Objection("directory.name", f"{name!r} is no file's name", hint, "bad-directory")
    if not is_pattern(name) and PurePath(name).suffix.lower() not in EXTENSIONS:
        return Objection(
            "directory.name", f"{name!r} is no picture's name", f"it ends with {', '.join(EXTENSIONS)}", "bad-directory"
        )
    return None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a payload may cost before it is decoded."""

    max_bytes: int = 16 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_json_depth: int = 8
