"""From a stream's ``input`` to the source it means, and what is wrong with one that means none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from agent.config.streams import InputOptions, Policy, StreamOptions
from agent.files import under
from agent.mqtt.transport import Transport
from agent.sources.base import Source
from agent.sources.camera import CameraSource
from agent.sources.directory import DirectorySource
from agent.sources.topic import TopicSource

__all__ = ["same_source", "source"]


def source(
    options: StreamOptions, transports: Mapping[str, Transport], folder: Path, *, max_bytes: int,
    changed: Callable[[], None],
) -> Source:  # fmt: skip
    """The source of a stream whose input has no objection; relative paths start at ``folder``."""
    wish = options.input
    if wish.directory is not None:
        path = under(folder, wish.directory.path)
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
