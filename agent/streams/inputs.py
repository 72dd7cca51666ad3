"""From a stream's ``input`` to the source it means, and what is wrong with one that means none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from msgspec.structs import replace

from agent.sources.base import Source
from agent.sources.camera import CameraSource
from agent.sources.directory import DirectorySource
from agent.sources.options import EXTENSIONS, DirectoryOptions, is_pattern
from agent.sources.topic import TopicSource
from agent.streams.options import InputOptions, StreamOptions
from agent.streams.queue import Policy
from agent.transport.base import Transport
from agent.transport.filters import valid_filter

__all__ = ["Objection", "objection", "same_source", "source"]

_SHORTEST_S = 0.01


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


def source(
    options: StreamOptions, transports: Mapping[str, Transport], folder: Path, *, max_bytes: int,
    changed: Callable[[], None],
) -> Source:  # fmt: skip
    """The source of a stream whose input has no objection; relative paths start at ``folder``."""
    wish = options.input
    if wish.directory is not None:
        path = folder / Path(wish.directory.path).expanduser()
        return DirectorySource(wish.directory, path, watched=not wish.interval_s, max_bytes=max_bytes, changed=changed)
    if wish.camera is not None:
        return CameraSource(wish.camera, folder, max_bytes=max_bytes, changed=changed)
    holds = options.policy is Policy.ALL
    return TopicSource(transports[wish.transport], wish.topic, qos=wish.qos, holds=holds, changed=changed)


def same_source(one: StreamOptions, other: StreamOptions) -> bool:
    """Whether both mean the same source, so that a camera plays on when only its interval or the model is another."""
    return _source_key(one) == _source_key(other)


def _source_key(options: StreamOptions) -> tuple[InputOptions, bool]:
    wish = options.input
    if wish.camera is not None:
        return InputOptions(camera=wish.camera), False
    if wish.directory is not None:
        return InputOptions(directory=wish.directory), not wish.interval_s
    return replace(wish, interval_s=0.0), options.policy is Policy.ALL
