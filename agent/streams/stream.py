"""One stream at work: payloads in, frames to the model, results out, each frame counted.

::

    payload → recognise → queue ┄ take ┄ pool → answer → result → filter → format → sinks
                  └─ failed        └─ dropped      └─ failed

A picture that comes in pieces is put together between the second step and the third (``assembly``).

The stream is a feeder of its model's pool: it hands a frame over only when a worker is free, so what waits
obeys the stream's policy.  Everything here runs on the event loop and takes microseconds; pictures are
decoded by the workers.

A source that is asked for its frames (a camera, a directory) is asked when a worker is free and nothing waits, or
at each beat where the input has an interval.  Of topics, the beat lets one waiting frame of each camera pass; what
came in between met the stream's policy.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from agent.config.streams import FrameLimits, StreamOptions
from agent.errors import FrameError, VergeError
from agent.frames import envelope
from agent.frames.frame import Frame, Picture
from agent.frames.pieces import Piece
from agent.frames.recognise import read, recognise
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, InferenceRequest, PoolState
from agent.mqtt.transport import Message
from agent.sources.base import Pacer, Source, SourceStatus
from agent.streams.assembly import Assembly
from agent.streams.metrics import Reports, StreamMetrics
from agent.streams.output import StreamOutput
from agent.streams.queue import CameraQueues, Drop

__all__ = ["STOPPING", "Stream"]

log = logging.getLogger(__name__)

STOPPING = "stopping"
HANDED_OVER = "handed-over"
SWITCHED = "switched"
BROKEN = "model-broken"
RETAINED = "retained"
"""A retained picture that was answered before, or is not wanted: nobody waits for an answer."""


class Stream:
    """A configured stream; entering takes frames, leaving finishes those in work and drops those that wait."""

    def __init__(
        self, name: str, options: StreamOptions, *, plane: InferencePlane, source: Source, output: StreamOutput,
        limits: FrameLimits, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.options = options
        self.source = source
        self.metrics = StreamMetrics(options.max_cameras)
        self._plane = plane
        self._output = output
        self._limits = limits
        self._changed = changed
        self._queues = _queues(options)
        self._reports = Reports()
        self._sequence = 0
        self._idle = asyncio.Event()
        self._assembly = Assembly(limits.max_bytes, self._give_up)
        self._owed: dict[int, Source] = {}
        """Sequence → the source that waits for the acknowledgement of that frame."""
        self._leaving: set[asyncio.Task[None]] = set()
        """Closed sources that may still have something to let go of."""
        self._pacer = Pacer(self._beat)
        self._passing = 0
        """How many frames this beat still lets pass."""
        self.observer: Callable[[Frame, Answer], None] | None = None
        """Sees each frame with its answer: how a new model is tried beside the one that serves."""

    async def __aenter__(self) -> Self:
        self._plane.attach(self.options.model, self)
        self.source.open(self.receive)
        self._pacer.set(self.options.input.interval_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()
        self._pacer.stop()
        self._plane.detach(self.options.model, self)
        self._assembly.clear(STOPPING)
        for drop in self._queues.clear(STOPPING):
            if drop.frame.sequence in self._owed and self.source.hands_over:
                # Neither answered nor acknowledged: the broker has it for the next process.
                del self._owed[drop.frame.sequence]
                self.metrics.drop(drop.frame.camera, HANDED_OVER)
            else:
                self._drop(drop)
        try:
            async with asyncio.timeout(self.options.drain_s):
                while self.metrics.pending:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.warning("stream %s: %d frames were still in work when it stopped", self.name, self.metrics.pending)
        self._output.close()
        await asyncio.gather(self.source.wait_closed(), *self._leaving)

    def switch(self, options: StreamOptions, source: Source, output: StreamOutput) -> tuple[Source, StreamOutput]:
        """Go on with other options, between two frames; the result is what served before, for the way back.

        Frames that wait stay waiting, frames in work are finished by the model that has them.  A source that served
        before is closed; the caller closes the output that is not needed any more.
        """
        old, old_source, old_output = self.options, self.source, self._output
        self.options, self.source, self._output = options, source, output
        if source is not old_source:
            old_source.close()
            leaving = asyncio.get_running_loop().create_task(old_source.wait_closed(), name=f"agent.stream.{self.name}")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self._pacer.stop()
            source.open(self.receive)
        self._pacer.set(options.input.interval_s)
        waiting, self._queues = self._queues.clear(SWITCHED), _queues(options)
        for drop in waiting:
            squeezed = self._queues.put(drop.frame)
            if squeezed is not None:
                self._drop(squeezed)
        if old.model != options.model:
            self._plane.detach(old.model, self)
            self._plane.attach(options.model, self)
        self._plane.wake(options.model)
        self._changed()
        return old_source, old_output

    @property
    def source_status(self) -> SourceStatus:
        """How the source is, and how the beats are kept."""
        status, pacer = self.source.status, self._pacer
        if not pacer.on:
            return status
        return replace(status, interval_s=pacer.interval_s, beats=pacer.beats, missed=pacer.missed)

    @property
    def lost(self) -> Counter[str]:
        """Results that were held back or could not be delivered, by reason."""
        return self._output.lost

    # -- in --------------------------------------------------------------------------------------------------

    def receive(self, message: Message, *, captured_at: float | None = None, refused: FrameError | None = None) -> None:
        """A payload came: count it, and have it wait if it is a picture."""
        self._sequence += 1
        message = self._output.answerable(message)
        camera = self.source.camera(message)
        if self.source.passes_over(message):
            self._pass_over(camera, message)
            return
        picture = self._recognised(camera, message, refused)
        if picture is None:
            return
        if captured_at is not None:
            picture = dataclasses.replace(picture, captured_at=captured_at)
        frame = Frame(
            stream=self.name, camera=camera, topic=message.topic, sequence=self._sequence, picture=picture,
            received_at=time.time(), arrived=message.arrived or time.monotonic(), response_topic=message.response_topic,
            correlation_data=message.correlation_data, packet_id=message.packet_id,
            retained=message.retain,
        )  # fmt: skip
        if message.packet_id and self.source.holds:
            self._owed[frame.sequence] = self.source
        drop = self._queues.put(frame)
        if drop is not None:
            self._drop(drop)
        if self._plane.status(self.options.model).state is PoolState.BROKEN:
            self.fail_waiting()
        else:
            self._plane.wake(self.options.model)

    def take(self) -> InferenceRequest[Answer] | None:
        """The next frame for the model, if one waits."""
        if self._pacer.on and self.source.pushes:
            if not self._passing:
                return None
            self._passing -= 1
        now = time.monotonic()
        frame, stale = self._queues.take(now)
        for drop in stale:
            self._drop(drop)
        if frame is None:
            if not self._pacer.on:
                self.source.want()
            return None
        snapshot = self._output.snapshot_wanted(frame, now)
        label = f"{self.name}-{frame.camera}-{frame.sequence}"
        request: InferenceRequest[Answer] = InferenceRequest(
            frame.picture, lambda outcome: self._finish(frame, request, outcome), label, snapshot,
            camera=f"{self.name}/{frame.camera}",
        )  # fmt: skip
        return request

    def _beat(self) -> bool:
        """A frame of each camera is due."""
        if not self.source.pushes:
            return self.source.beat()
        self._passing = self._queues.cameras
        self._plane.wake(self.options.model)
        return True

    def fail_waiting(self) -> None:
        """The model is broken: the frames that wait for it fail now."""
        for drop in self._queues.clear(BROKEN):
            reason = VergeError(f"the model {self.options.model} is broken", code=BROKEN)
            self._fail(drop.frame, reason)

    def _recognised(self, camera: str, message: Message, refused: FrameError | None) -> Picture | None:
        """The picture that a message brings, counted as received; None where it is refused or not whole yet."""
        try:
            if refused is not None:
                raise refused
            found = read(message.payload, message.content_type, self._limits, self.options.input.image_key)
        except FrameError as error:
            self.metrics.arrived(camera)
            self._refuse(camera, message, error)
            return None
        if isinstance(found, Piece):
            return self._put_together(camera, message, found)
        self.metrics.arrived(camera)
        return found

    def _put_together(self, camera: str, message: Message, piece: Piece) -> Picture | None:
        """The picture whose last missing piece came."""
        taken = self._assembly.put(camera, message, piece)
        if taken.began:
            self.metrics.arrived(camera)
        if taken.whole is None:
            self._acknowledge_at_once(message)
            return None
        try:
            picture = recognise(taken.whole, None, self._limits)
        except FrameError as error:
            self._refuse(camera, message, error)
            return None
        return dataclasses.replace(picture, metadata=taken.facts, captured_at=envelope.captured_at(taken.facts))

    def _give_up(self, camera: str, message: Message, reason: str) -> None:
        """A picture of which not every piece came."""
        self.metrics.drop(camera, reason)
        self._output.refuse(
            message, camera, self._sequence, VergeError(f"the picture was dropped: {reason}", code=reason)
        )
        self._idle.set()
        self._changed()

    # -- out -------------------------------------------------------------------------------------------------

    def _finish(self, frame: Frame, request: InferenceRequest[Answer], outcome: Answer | VergeError) -> None:
        now = time.monotonic()
        if isinstance(outcome, VergeError):
            self._fail(frame, outcome)
            return
        total_ms = (now - frame.arrived) * 1e3
        try:
            assert request.model is not None  # noqa: S101 an answer comes from a model
            self._output.put(frame, request.model, outcome, total_ms, now)
        except VergeError as error:
            self._fail(frame, error)
            return
        self.metrics.answer(frame.camera, total_ms, now, damaged=outcome.damaged)
        self._done(frame)
        if self.observer is not None:
            self.observer(frame, outcome)

    def _refuse(self, camera: str, message: Message, error: FrameError) -> None:
        self.metrics.fail(camera, error.code)
        self._warn(message.topic, error, message.topic)
        self._output.refuse(message, camera, self._sequence, error)
        if message.packet_id and self.source.holds:
            self._acknowledge(self.source, message)
        self._changed()
        self._plane.wake(self.options.model)  # there is room for another one

    def _pass_over(self, camera: str, message: Message) -> None:
        self.metrics.arrived(camera)
        self.metrics.drop(camera, RETAINED)
        self._acknowledge_at_once(message)
        self._changed()

    def _drop(self, drop: Drop) -> None:
        self.metrics.drop(drop.frame.camera, drop.reason)
        error = VergeError(f"the frame was dropped: {drop.reason}", code=drop.reason)
        self._output.fail(drop.frame, error)
        self._done(drop.frame)

    def _fail(self, frame: Frame, error: VergeError) -> None:
        self.metrics.fail(frame.camera, error.code)
        self._warn(frame.topic, error, f"frame {frame.sequence} of {frame.camera}")
        self._output.fail(frame, error)
        self._done(frame)
        self._changed()

    def _warn(self, topic: str, error: VergeError, what: str) -> None:
        report = self._reports.note(topic, error.code, time.monotonic())
        if report is not None:
            more = f" (and {report.suppressed} more since the last report)" if report.suppressed else ""
            log.warning("stream %s: %s: %s%s", self.name, what, error, more)

    def _done(self, frame: Frame) -> None:
        source = self._owed.pop(frame.sequence, None)
        if source is not None:
            self._acknowledge(source, Message(frame.topic, b"", qos=1, packet_id=frame.packet_id))
        self._idle.set()

    def _acknowledge(self, source: Source, message: Message) -> None:
        """Tell the sender that a message is done with, once what came of it outlives this process."""
        self._output.when_safe(partial(source.acknowledge, message))

    def _acknowledge_at_once(self, message: Message) -> None:
        """Nothing came of a message."""
        if message.packet_id and self.source.holds:
            self.source.acknowledge(message)


def _queues(options: StreamOptions) -> CameraQueues:
    return CameraQueues(
        options.policy, depth=options.depth, max_age_s=options.max_age_ms / 1e3, max_cameras=options.max_cameras
    )
