"""The streams that run, by name: added, switched and removed while the others go on.

Whether a stream comes from the configuration or from a deployment makes no difference here.  When a model breaks, its
streams fail the frames that wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from agent.config.streams import FrameLimits, InputOptions, Policy, StreamOptions, problems
from agent.config.strict import nearest
from agent.errors import ConfigError
from agent.files import under
from agent.inference.plane import InferencePlane
from agent.inference.values import PoolState, PoolStatus
from agent.mqtt.replies import AnswerTopics
from agent.mqtt.transport import Transport
from agent.results.formats import Context
from agent.sources.base import Source
from agent.sources.camera import CameraSource
from agent.sources.directory import DirectorySource
from agent.sources.retained import SeenPictures
from agent.sources.topic import TopicSource
from agent.streams.output import StreamOutput
from agent.streams.stream import Stream
from agent.topics import level

__all__ = ["Streams", "Switched", "same_source", "source"]

Added = Callable[[Stream], None]
Room = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch that was made: ``back`` undoes it, ``keep`` lets go of what served before."""

    back: Callable[[], None]
    keep: Callable[[], None]


class Streams:
    """Running streams; leaving removes them, each within its own deadline.

    ``room`` says how many unacknowledged messages the broker of a transport may send; ``added`` and ``removed`` are
    called with streams that come and go, ``changed`` whenever their counts or states may have changed; ``memory`` is
    the folder in which streams keep what they have to know after a restart.
    """

    def __init__(
        self, thing: str, plane: InferencePlane, transports: Mapping[str, Transport], folder: Path, *,
        memory: Path, limits: FrameLimits, room: Room, added: Added, removed: Added, changed: Callable[[], None],
        answers: AnswerTopics | None = None,
    ) -> None:  # fmt: skip
        self._thing = thing
        self._plane = plane
        self._transports = transports
        self._folder = folder
        self._memory = memory
        self._limits = limits
        self._room = room
        self._answers = answers
        self._added, self._removed, self._changed = added, removed, changed
        self._streams: dict[str, Stream] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self.remove(name) for name in list(self._streams)))

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __contains__(self, name: str) -> bool:
        return name in self._streams

    def __getitem__(self, name: str) -> Stream:
        return self._streams[name]

    async def add(self, name: str, options: StreamOptions, context: Context) -> None:
        """Start a stream; its model must be loaded.  Raises ``ConfigError`` for options that cannot be used."""
        options = self.checked(name, options)
        stream = Stream(
            name, options, plane=self._plane, source=self._source(name, options),
            output=self._output(name, options, context), limits=self._limits, changed=self._changed,
        )  # fmt: skip
        await stream.__aenter__()
        self._streams[name] = stream
        self._added(stream)

    def switch(self, name: str, options: StreamOptions, context: Context) -> Switched:
        """Have a stream go on with other options, between two frames; one of the result's ways is then to be gone.

        Raises ``ConfigError`` for options that cannot be used; the stream goes on as it was then.
        """
        options = self.checked(name, options)
        stream = self._streams[name]
        before = stream.options
        output = self._output(name, options, context)
        # A source that stays is not closed and opened: a camera plays on while its model is another.
        served = stream.source if same_source(before, options) else self._source(name, options)
        old_source, old_output = stream.switch(options, served, output)

        def back() -> None:
            stream.switch(before, old_source, old_output)
            output.close()

        return Switched(back, old_output.close)

    async def remove(self, name: str) -> None:
        """Stop a stream: frames in work are finished, those that wait are dropped, and all are counted."""
        stream = self._streams.pop(name)
        await stream.__aexit__(None, None, None)
        self._removed(stream)

    def model_changed(self, model: str, status: PoolStatus) -> None:
        """A model's workers changed."""
        if status.state is PoolState.BROKEN:
            for stream in self._streams.values():
                if stream.options.model == model:
                    stream.fail_waiting()

    def checked(self, name: str, options: StreamOptions) -> StreamOptions:
        """The options with the transport filled in and named ones looked up; raises ``ConfigError``."""
        usual = next(iter(self._transports))
        options = replace(options, input=replace(options.input, transport=options.input.transport or usual))
        named = [options.input.transport, *(output.transport for output in options.outputs)]
        for transport in [*named, options.snapshots.transport if options.snapshots else ""]:
            if transport and transport not in self._transports:
                raise ConfigError(
                    f"stream {name}: there is no transport {transport!r}",
                    code="unknown-transport",
                    hint=nearest(transport, self._transports) or f"known: {', '.join(self._transports)}",
                )
        for problem in problems(options):
            raise ConfigError(
                f"stream {name}: {problem.path}: {problem.message}",
                code=problem.code,
                hint=problem.hint,
                path=problem.path,
            )
        if options.policy is Policy.ALL:
            # What the broker may send unacknowledged always finds room; that is what makes the source wait.
            options = replace(options, depth=max(options.depth, self._room(options.input.transport)))
        return options

    def _source(self, name: str, options: StreamOptions) -> Source:
        once = options.input.topic and options.input.retained == "once"
        return source(
            options, self._transports, self._folder, max_bytes=self._limits.max_bytes, changed=self._changed,
            seen=SeenPictures(self._memory / f"{level(name)}.json") if once else None,
        )  # fmt: skip

    def _output(self, name: str, options: StreamOptions, context: Context) -> StreamOutput:
        return StreamOutput(name, self._thing, options, self._transports, self._folder, context, answers=self._answers)


def source(
    options: StreamOptions, transports: Mapping[str, Transport], folder: Path, *, max_bytes: int,
    changed: Callable[[], None], seen: SeenPictures | None = None,
) -> Source:  # fmt: skip
    """The source of a stream whose input has no objection; relative paths start at ``folder``.

    ``seen`` is what the stream knows of retained pictures, where it answers each once.
    """
    given = options.input
    if given.directory is not None:
        path, watched = under(folder, given.directory.path), not given.interval_s
        return DirectorySource(given.directory, path, watched=watched, max_bytes=max_bytes, changed=changed)
    if given.camera is not None:
        return CameraSource(given.camera, folder, max_bytes=max_bytes, changed=changed)
    holds = options.policy is Policy.ALL
    return TopicSource(
        transports[given.transport], given.topic, qos=given.qos, holds=holds,
        retained=given.retained != "never", seen=seen, changed=changed,
    )  # fmt: skip


def same_source(one: StreamOptions, other: StreamOptions) -> bool:
    """Whether both mean the same source, so that a camera plays on when only its interval or the model is another."""
    return _source_key(one) == _source_key(other)


def _source_key(options: StreamOptions) -> tuple[InputOptions, bool]:
    given = options.input
    if given.camera is not None:
        return InputOptions(camera=given.camera), False
    if given.directory is not None:
        return InputOptions(directory=given.directory), not given.interval_s
    return replace(given, interval_s=0.0, image_key=""), options.policy is Policy.ALL
