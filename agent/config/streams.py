"""What the configuration says of a stream: where frames come from, which model, where results go.

A recipe's ``Verge`` block says the same with the same structs (``agent.greengrass.deployments.blocks``).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from string import Formatter
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.config.bounds import (
    LONGEST_S,
    Count,
    DiskBytes,
    Fraction,
    Name,
    OptionalPath,
    PathText,
    Pause,
    Rate,
    SessionSeconds,
    Text,
    Timeout,
)
from agent.errors import ConfigError
from agent.topics import RESULTS, valid_filter, valid_topic

__all__ = [
    "EXTENSIONS",
    "SHORTEST_S",
    "CameraAddress",
    "CameraKind",
    "CameraOptions",
    "DirectoryOptions",
    "FileSinkOptions",
    "FilterOptions",
    "FrameLimits",
    "InputOptions",
    "MaskForm",
    "OutputOptions",
    "Policy",
    "SnapshotOptions",
    "StreamOptions",
    "camera_address",
    "check_template",
    "is_pattern",
    "matches",
    "problems",
]

SHORTEST_S: Final = 0.01
"""Between two frames of a camera that come at an interval."""
EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".npy")
"""What a picture's name ends with, in any case."""
TEMPLATE_FIELDS: Final = ("thing", "stream", "camera", "label")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_GSTREAMER, _PICAMERA = "gstreamer:", "picamera2"

CameraKind: TypeAlias = Literal["device", "url", "file", "gstreamer", "picamera2"]
Size: TypeAlias = Annotated[int, Meta(ge=0, le=16384)]
Cameras: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]
Interval: TypeAlias = Annotated[float, Meta(ge=0, le=LONGEST_S)]
MaskForm: TypeAlias = Literal["rle", "png", "none"]
Device: TypeAlias = Annotated[int, Meta(ge=0, le=1023)]


class FrameLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a payload may cost before it is decoded: the table ``[limits]``."""

    max_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 16 * 1024 * 1024
    """A worker keeps room for two such payloads."""
    max_pixels: Annotated[int, Meta(ge=1, le=1 << 32)] = 50_000_000
    max_json_depth: Annotated[int, Meta(ge=1, le=64)] = 8


# -- where frames come from ------------------------------------------------------------------------------------------


class DirectoryOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pictures from files of one folder: at an interval, or each new and changed one.

    With an interval, one file is read anew at every beat.  Without, the folder is watched, and every file that is new
    or changed is one frame, in the order in which they were written.
    """

    path: OptionalPath
    name: Text = "*"
    """One name, or a pattern with ``*``, ``?`` and ``[…]``; the extension matches in any case."""
    pick: Literal["newest", "next"] = "newest"
    """At an interval, of several: the one written last, or one after the other by name, round and round."""
    existing: bool = False
    """Watched: whether the files that are there when it begins are frames too."""
    settle_s: Annotated[float, Meta(ge=0, le=60)] = 0.2
    """A file is whole when nothing was written to it for so long."""


class CameraOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A camera, played by a process of its own."""

    source: Text | Device
    """An index or ``/dev/videoN`` (V4L2), a URL (RTSP, HTTP), a file, ``gstreamer: <pipeline>``, or ``picamera2``."""
    name: Name = ""
    """The camera's name in results and topics; empty is made from ``source``."""
    width: Size = 0
    height: Size = 0
    fps: Annotated[float, Meta(ge=0, le=1000)] = 0
    """Size and pace that a device is asked for, 0 its own; a stream and a file come as they are."""
    fourcc: Annotated[str, Meta(pattern=r"^(.{4})?$")] = ""
    """The pixel format a V4L2 device is asked for, e.g. MJPG or YUYV."""
    pace: Literal["own", "asked"] = "own"
    """A file: at the pace it was recorded at, or every picture of it, each when there is room for it."""
    loop: bool = False
    """A file: begin again at its end."""
    timeout_s: Timeout = 10.0
    """A camera that shows no picture for so long, or cannot be opened within it, is opened anew."""
    interpreter: OptionalPath = ""
    """The Python that runs it, e.g. the system's where ``picamera2`` is; empty is the agent's own."""


class InputOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frames from topics, from a directory, or from a camera: exactly one of the three."""

    topic: Text = ""
    """A filter; with wildcards, each topic is a camera."""
    directory: DirectoryOptions | None = None
    camera: CameraOptions | None = None
    interval_s: Interval = 0.0
    """Seconds between two frames of a camera, on a grid that does not drift; 0 takes them as they come."""
    transport: Name = ""
    """Which broker, for topics in, answers and whatever names no other; empty is the first configured one."""
    image_key: Text = ""
    """Where in JSON the picture is, as in ``event.image`` or ``inputs.0.data``; empty finds it under any key."""
    qos: Literal[0, 1] = 0
    retained: Literal["once", "always", "never"] = "once"
    """Which retained pictures of topics are answered: each once, at every subscription, or none."""


# -- where results go ------------------------------------------------------------------------------------------------


class FilterOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which predictions and which results are published; what has no label or no score passes for it.

    An anomaly is labelled ``anomaly`` or ``normal``, a vector with the name of the nearest one known.
    """

    labels: tuple[Text, ...] = ()
    """Only these; empty means all.  A detection stays too for those of its parts that are named."""
    exclude: tuple[Text, ...] = ()
    """Never these, even where ``labels`` names them."""
    min_score: Fraction = 0.0
    """For parts of a detection too; of a vector it is the cosine to the nearest one known."""
    keep_empty: bool = True
    """Whether a result without predictions is published."""
    on_change: bool = False
    """Publish only where the set of labels and texts differs from the camera's last published one."""
    max_rate_hz: Rate | None = None
    """At most this many results per second and camera; 0.1 is one in ten seconds."""


class FileSinkOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results as JSON lines in a file that is rotated by size."""

    path: PathText
    max_bytes: DiskBytes = 10 * 1024 * 1024
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 5
    """Files in all, the one being written included."""


class OutputOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results to a topic, to a file, or to the agent's log."""

    topic: Text = RESULTS
    """May hold ``{thing}``, ``{stream}``, ``{camera}`` and ``{label}``."""
    transport: Name = ""
    qos: Literal[0, 1] = 1
    retain: bool = False
    expiry_s: SessionSeconds | None = None
    file: FileSinkOptions | None = None
    """Write JSON lines here instead of publishing."""
    log: bool = False
    """Write to the agent's log instead of publishing."""
    format: Name = "native"
    masks: MaskForm = "rle"
    """How masks are written: as run lengths, as PNG, which is large, or not at all."""
    large: Literal["topic", "base64", "none"] | None = None
    """Where PNG, vectors and tensors of many bytes go: each to a topic of its own, into the result, or nowhere.

    Where nothing is said: to topics, if the result goes to one; into it in a file; nowhere in the log.
    """
    filter: FilterOptions = FilterOptions()


class SnapshotOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Annotated pictures, beside the results: to a topic, a folder or both."""

    topic: Text | None = None
    """``verge/{thing}/snapshots/{stream}`` is the usual one; without it nothing is published."""
    transport: Name = ""
    retain: bool = False
    folder: PathText | None = None
    """Where pictures are kept; without it they are only published."""
    keep: Count = 100
    """Pictures in the folder; past that the oldest is removed."""
    max_rate_hz: Rate = 1.0
    """At most this many per second and camera."""
    max_side: Annotated[int, Meta(ge=1, le=65_535)] | None = 1280
    """Longer pictures are scaled down to it, in pixels."""
    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Of the JPEG."""
    filter: FilterOptions = FilterOptions()
    """Only pictures whose result passes, e.g. has an anomaly; the others do not count towards ``max_rate_hz``."""


class Policy(enum.StrEnum):
    """What happens to a frame that finds no room."""

    LATEST = "latest"
    FIFO = "fifo"
    ALL = "all"


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stream."""

    model: Text
    """A model of this configuration."""
    input: InputOptions
    outputs: tuple[OutputOptions, ...] = (OutputOptions(),)
    policy: Policy = Policy.LATEST
    depth: Cameras = 8
    """Frames that may wait per camera, for ``fifo`` and ``all``."""
    max_age_ms: Annotated[float, Meta(ge=0, le=LONGEST_S * 1000)] = 0
    """Frames older than this are dropped; 0 keeps any age."""
    max_cameras: Cameras = 256
    filter: FilterOptions = FilterOptions()
    """For every output; an output may filter further."""
    snapshots: SnapshotOptions | None = None
    drain_s: Pause = 5.0
    """How long frames in work may take to finish when the agent stops."""


# -- what the types of a stream's values cannot say -------------------------------------------------------------------


def problems(options: StreamOptions) -> Iterator[ConfigError]:
    """What is wrong with a stream beyond the types of its values; an error's ``path`` begins at the stream."""
    yield from _of_input(options.input)
    for number, output in enumerate(options.outputs):
        if output.file is None and not output.log:
            yield from _of_template(output.topic, f"outputs[{number}].topic")
        elif output.large == "topic":
            hint = 'large = "base64" or "none"; or a second output, to a topic'
            path = f"outputs[{number}].large"
            yield ConfigError("the output has no topic", code="output-wrong", hint=hint, path=path)
    if options.snapshots is not None and options.snapshots.topic is not None:
        yield from _of_template(options.snapshots.topic, "snapshots.topic")


def check_template(template: str, fields: Collection[str] = TEMPLATE_FIELDS) -> None:
    """Raise ``ConfigError`` for a topic with ``{fields}`` that gives no topic to publish on."""
    try:
        used = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise _no_template(template, str(error), fields) from error
    for name, spec, conversion in used:
        if name not in fields or spec or conversion:
            raise _no_template(template, f"there is no field {{{name}}}", fields)
    if not valid_topic(template):
        why = "a topic to publish on is not empty and has no wildcards or control characters"
        raise _no_template(template, why, fields)


def _of_template(template: str, path: str) -> Iterator[ConfigError]:
    try:
        check_template(template)
    except ConfigError as error:
        yield ConfigError(error.message, code=error.code, hint=error.hint, path=path)


def _no_template(template: str, why: str, fields: Collection[str]) -> ConfigError:
    known = ", ".join(f"{{{name}}}" for name in fields)
    return ConfigError(f"cannot publish on {template!r}: {why}", hint=f"the fields are {known}", code="topic-wrong")


def _of_input(options: InputOptions) -> Iterator[ConfigError]:
    sources = [bool(options.topic), options.directory is not None, options.camera is not None]
    if sum(sources) != 1:
        problem = "names more than one source" if any(sources) else "names no source"
        hint = "give exactly one of topic, directory and camera"
        yield ConfigError(problem, code="input-source", hint=hint, path="input")
    if options.topic and not valid_filter(options.topic):
        hint = "+ and # stand for whole levels, and # for the last ones only"
        problem = f"{options.topic!r} is no MQTT topic filter"
        yield ConfigError(problem, code="bad-topic", hint=hint, path="input.topic")
    if 0 < options.interval_s < SHORTEST_S:
        hint = f"0 takes frames as they come; the shortest interval is {SHORTEST_S:g}"
        yield ConfigError(
            f"{options.interval_s:g} is too short", code="bad-interval", hint=hint, path="input.interval_s"
        )
    if options.directory is not None:
        yield from _of_directory(options.directory)
    if options.camera is not None and options.camera.source == "":
        hint = "an index, a device, a URL or a file"
        yield ConfigError("is empty", code="bad-camera", hint=hint, path="input.camera.source")


def _of_directory(options: DirectoryOptions) -> Iterator[ConfigError]:
    if not options.path:
        hint = "name the folder of the pictures"
        yield ConfigError("is empty", code="bad-directory", hint=hint, path="input.directory.path")
    name = options.name
    problem = hint = ""
    if not name or "/" in name or name in {".", ".."}:
        problem, hint = f"{name!r} is no file's name", "one name or pattern, without folders: those belong to path"
    elif not is_pattern(name) and PurePath(name).suffix.lower() not in EXTENSIONS:
        problem, hint = f"{name!r} is no picture's name", f"it ends with {', '.join(EXTENSIONS)}"
    if problem:
        yield ConfigError(problem, code="bad-directory", hint=hint, path="input.directory.name")


# -- what the values mean --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CameraAddress:
    """What a camera's ``source`` means."""

    kind: CameraKind
    address: str | int


def camera_address(source: str | int) -> CameraAddress:
    """Tell the kinds of cameras apart.

    >>> camera_address("0"), camera_address("rtsp://door/1").kind
    (CameraAddress(kind='device', address=0), 'url')
    >>> camera_address("gstreamer: videotestsrc ! appsink").address
    'videotestsrc ! appsink'
    """
    if isinstance(source, int) or source.isdecimal():
        return CameraAddress("device", int(source))
    if source.lower().startswith(_GSTREAMER):
        return CameraAddress("gstreamer", source[len(_GSTREAMER) :].strip())
    if source.lower() == _PICAMERA or re.fullmatch(rf"{_PICAMERA}:\d+", source.lower()):
        return CameraAddress("picamera2", int(source.partition(":")[2] or 0))
    if source.startswith("/dev/"):
        return CameraAddress("device", source)
    if source.lower().startswith("file://"):
        return CameraAddress("file", source[len("file://") :])
    return CameraAddress("url" if _SCHEME.match(source) else "file", source)


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files."""
    return any(sign in name for sign in "*?[")


def matches(pattern: str, name: str) -> bool:
    """Whether a file's name is a picture's and fits the pattern; hidden files fit only where the pattern says so."""
    suffix = PurePath(name).suffix
    if suffix.lower() not in EXTENSIONS or (name.startswith(".") and not pattern.startswith(".")):
        return False
    return fnmatchcase(_lower_suffix(name), _lower_suffix(pattern))


def _lower_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"
