"""One stream at work: payloads in, frames to the model, results out, the books kept.

::

    payload → recognise → queue ┄ take ┄ pool → answer → result → filter → format → sinks
                  └─ failed        └─ dropped      └─ failed

The stream is a feeder of its model's pool: it hands a frame over only when a worker is free, so what waits
obeys the stream's policy.  Everything here runs on the event loop and takes microseconds; pictures are
decoded by the workers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent.errors import FrameRefused, VergeError
from agent.frames.frame import Frame, Limits
from agent.frames.recognise import recognise
from agent.frames.reports import Reports
from agent.inference.job import Job
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, PoolState
from agent.streams.options import StreamOptions
from agent.streams.outlet import Outlet
from agent.streams.queue import CameraQueues, Drop, Policy
from agent.streams.tally import Tally
from agent.topics import camera_of
from agent.transport.base import Message, Transport

__all__ = ["STOPPING", "Stream"]

log = logging.getLogger(__name__)

STOPPING = "stopping"
SWITCHED = "switched"
BROKEN = "model-broken"


class Stream:
    """A configured stream; entering takes frames, leaving finishes those in work and drops those that wait."""

    def __init__(
        self, name: str, options: StreamOptions, *, plane: InferencePlane, transport: Transport, outlet: Outlet,
        limits: Limits, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.options = options
        self.tally = Tally(options.max_cameras)
        self._plane = plane
        self._transport = transport
        self._outlet = outlet
        self._limits = limits
        self._changed = changed
        self._queues = _queues(options)
        self._reports = Reports()
        self._sequence = 0
        self._idle = asyncio.Event()
        self._owed: dict[int, Transport] = {}
        """Sequence → the transport that waits for the acknowledgement of that frame."""
        self.observer: Callable[[Frame, Answer], None] | None = None
        """Sees each frame with its answer: how a new model is tried beside the one that serves."""

    async def __aenter__(self) -> Self:
        self._plane.attach(self.options.model, self)
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.unsubscribe(self.options.input.topic, self.receive)
        self._plane.detach(self.options.model, self)
        for drop in self._queues.clear(STOPPING):
            self._drop(drop)
        try:
            async with asyncio.timeout(self.options.drain_s):
                while self.tally.pending:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.warning("stream %s: %d frames were still in work when it stopped", self.name, self.tally.pending)
        self._outlet.close()

    def switch(self, options: StreamOptions, transport: Transport, outlet: Outlet) -> tuple[Transport, Outlet]:
        """Go on with other options, between two frames; the result is what served before, for the way back.

        Frames that wait stay waiting, frames in work are finished by the model that has them.  The caller closes
        the outlet that is not needed any more.
        """
        before = self.options, self._transport, self._outlet
        old = before[0]
        self.options, self._transport, self._outlet = options, transport, outlet
        if (old.input, old.policy, before[1]) != (options.input, options.policy, transport):
            before[1].unsubscribe(old.input.topic, self.receive)
            self._listen()
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
        return before[1], before[2]

    def _listen(self) -> None:
        source = self.options.input
        qos = 1 if self._holds else source.qos
        self._transport.subscribe(source.topic, self.receive, qos=qos, manual_ack=self._holds)

    @property
    def _holds(self) -> bool:
        """Whether the source is made to wait: a frame is acknowledged when it is done."""
        return self.options.policy is Policy.ALL

    @property
    def lost(self) -> Counter[str]:
        """Results that were held back or could not be delivered, by reason."""
        return self._outlet.lost

    # -- in --------------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """A payload came: count it, and have it wait if it is a picture."""
        self._sequence += 1
        camera = camera_of(self.options.input.topic, message.topic)
        self.tally.arrived(camera)
        try:
            picture = recognise(message.payload, message.content_type, self._limits)
        except FrameRefused as error:
            self._refuse(camera, message, error)
            return
        frame = Frame(
            stream=self.name, camera=camera, topic=message.topic, sequence=self._sequence, picture=picture,
            received_at=time.time(), arrived=time.monotonic(), response_topic=message.response_topic,
            correlation_data=message.correlation_data, packet_id=message.packet_id,
        )  # fmt: skip
        if self._holds and message.packet_id:
            self._owed[frame.sequence] = self._transport
        drop = self._queues.put(frame)
        if drop is not None:
            self._drop(drop)
        if self._plane.describe(self.options.model).state is PoolState.BROKEN:
            self.fail_waiting()
        else:
            self._plane.wake(self.options.model)

    def take(self) -> Job | None:
        """The next frame for the model, if one waits."""
        now = time.monotonic()
        frame, stale = self._queues.take(now)
        for drop in stale:
            self._drop(drop)
        if frame is None:
            return None
        snapshot = self._outlet.snapshot_wanted(frame, now)
        label = f"{self.name}-{frame.camera}-{frame.sequence}"
        job = Job(frame.picture, lambda outcome: self._finish(frame, job, outcome), label, snapshot)
        return job

    def fail_waiting(self) -> None:
        """The model is broken: whoever waits for it is told so now."""
        for drop in self._queues.clear(BROKEN):
            reason = VergeError(f"the model {self.options.model} is broken", code=BROKEN)
            self._fail(drop.frame, reason)

    # -- out -------------------------------------------------------------------------------------------------

    def _finish(self, frame: Frame, job: Job, outcome: Answer | VergeError) -> None:
        now = time.monotonic()
        if isinstance(outcome, VergeError):
            self._fail(frame, outcome)
            return
        total_ms = (now - frame.arrived) * 1e3
        try:
            assert job.model is not None  # noqa: S101 an answer comes from a model
            self._outlet.put(frame, job.model, outcome, total_ms, now)
        except VergeError as error:
            self._fail(frame, error)
            return
        self.tally.answer(frame.camera, total_ms, now)
        self._done(frame)
        if self.observer is not None:
            self.observer(frame, outcome)

    def _refuse(self, camera: str, message: Message, error: FrameRefused) -> None:
        self.tally.fail(camera, error.code)
        report = self._reports.note(message.topic, error.code, time.monotonic())
        if report is not None:
            log.warning("stream %s: %s: %s", self.name, message.topic, error)
        self._outlet.refuse(message, camera, self._sequence, error)
        if message.packet_id and self._holds:
            self._transport.acknowledge(message)
        self._changed()

    def _drop(self, drop: Drop) -> None:
        self.tally.drop(drop.frame.camera, drop.reason)
        error = VergeError(f"the frame was dropped: {drop.reason}", code=drop.reason)
        self._outlet.fail(drop.frame, error)
        self._done(drop.frame)

    def _fail(self, frame: Frame, error: VergeError) -> None:
        self.tally.fail(frame.camera, error.code)
        if self._reports.note(frame.topic, error.code, time.monotonic()) is not None:
            log.warning("stream %s: frame %d of %s: %s", self.name, frame.sequence, frame.camera, error)
        self._outlet.fail(frame, error)
        self._done(frame)
        self._changed()

    def _done(self, frame: Frame) -> None:
        transport = self._owed.pop(frame.sequence, None)
        if transport is not None:
            transport.acknowledge(Message(frame.topic, b"", qos=1, packet_id=frame.packet_id))
        self._idle.set()


def _queues(options: StreamOptions) -> CameraQueues:
    return CameraQueues(
        options.policy, depth=options.depth, max_age_s=options.max_age_ms / 1e3, max_cameras=options.max_cameras
    )
