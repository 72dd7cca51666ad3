"""What the configuration says of a directory and of a camera."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = ["EXTENSIONS", "CameraOptions", "DirectoryOptions", "Kind", "Target", "is_pattern", "matches", "target"]

Size = Annotated[int, Meta(ge=0, le=16384)]
Kind: TypeAlias = Literal["device", "url", "file", "gstreamer", "picamera2"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".npy")
"""What a picture's name ends with, in any case."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_GSTREAMER, _PICAMERA = "gstreamer:", "picamera2"


class DirectoryOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pictures from files of one folder: at an interval, or each new and changed one.

    With an interval, one file is read anew at every beat.  Without, the folder is watched, and every file that is new
    or changed is one frame, in the order in which they were written.
    """

    path: str
    name: str = "*"
    """One name, or a pattern with ``*``, ``?`` and ``[…]``; the extension matches in any case."""
    pick: Literal["newest", "next"] = "newest"
    """At an interval, of several: the one written last, or one after the other by name, round and round."""
    existing: bool = False
    """Watched: whether the files that are there when it begins are frames too."""
    settle_s: Annotated[float, Meta(ge=0, le=60)] = 0.2
    """A file is whole when nothing was written to it for so long."""


class CameraOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A camera, played by a process of its own."""

    source: str | int
    """An index or ``/dev/videoN`` (V4L2), a URL (RTSP, HTTP), a file, ``gstreamer: <pipeline>``, or ``picamera2``."""
    name: str = ""
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
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    """A camera that shows no picture for so long, or cannot be opened within it, is opened anew."""
    interpreter: str = ""
    """The Python that runs it, e.g. the system's where ``picamera2`` is; empty is the agent's own."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a camera's ``source`` means."""

    kind: Kind
    address: str | int


def target(source: str | int) -> Target:
    """Tell the kinds of cameras apart.

    >>> target("0"), target("rtsp://door/1").kind, target("gstreamer: videotestsrc ! appsink").address
    (Target(kind='device', address=0), 'url', 'videotestsrc ! appsink')
    """
    if isinstance(source, int) or source.isdecimal():
        return Target("device", int(source))
    if source.lower().startswith(_GSTREAMER):
        return Target("gstreamer", source[len(_GSTREAMER) :].strip())
    if source.lower() == _PICAMERA or re.fullmatch(rf"{_PICAMERA}:\d+", source.lower()):
        return Target("picamera2", int(source.partition(":")[2] or 0))
    if source.startswith("/dev/"):
        return Target("device", source)
    if source.lower().startswith("file://"):
        return Target("file", source[len("file://") :])
    return Target("url" if _SCHEME.match(source) else "file", source)


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
