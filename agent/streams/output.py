"""A stream's output: an answer becomes a result, the result is filtered, formatted and handed to sinks.

A sender that asked for an answer (MQTT 5 response topic) gets the native result, unfiltered, or the reason
why there is none.  What a sink cannot deliver is counted there and never stops the stream.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from agent.config.streams import MaskForm, OutputOptions, StreamOptions
from agent.errors import ConfigError, VergeError
from agent.files import under
from agent.frames.frame import Frame
from agent.inference.predictions import Prediction, headline
from agent.inference.values import Answer, ModelMetadata, Snapshot
from agent.mqtt.replies import REFUSED, Answering, AnswerTopics
from agent.mqtt.transport import Message, Transport
from agent.results import formats
from agent.results.attachments import TOO_MANY, Detacher
from agent.results.filters import Filters
from agent.results.formats import Context, Format
from agent.results.result import Failure, FrameFacts, ModelFacts, Reason, Result, Timing, Ulids, utc
from agent.results.sinks import FileSink, LogSink, Sink, TopicSink
from agent.results.snapshots import SnapshotFolder, SnapshotPace

__all__ = ["StreamOutput"]

log = logging.getLogger(__name__)

UNSUITED = "format-unsuited"

_encode = msgspec.json.Encoder().encode


Attach: TypeAlias = Callable[[Result, int, bytes, str], bool]
"""Takes a result's attachment: its number, bytes and content type; says whether it is on its way."""


@dataclass(frozen=True, slots=True)
class _Output:
    """One configured output: what passes, how it is written, where it goes."""

    filters: Filters
    format: Format
    context: Context
    sink: Sink
    masks: MaskForm
    attach: Attach | None
    """Where what is large goes; None leaves it in the result."""
    left_out: Counter[str] = field(default_factory=Counter)

    def write(self, result: Result) -> None:
        """Send a result out, with its attachments before it."""
        detached = self._detached(result) if self.format.attaches else result
        self.sink.write(self.format.encode(detached, self.context), result)
        if self.format.carries is not None:
            self._count(result, self.format.carries)

    @property
    def lost(self) -> Counter[str]:
        """What was held back, left out or could not be delivered, by reason."""
        return self.filters.held_back + self.left_out + self.sink.lost

    def _count(self, result: Result, carries: Callable[[Prediction], bool]) -> None:
        """Count what the format could not say of a result, and say so for the first."""
        unsaid = [one for one in result.predictions if not carries(one)]
        if unsaid and not self.left_out[UNSUITED]:
            words = ", ".join(sorted({headline(one)[0] for one in unsaid}))
            log.warning("stream %s: the format of an output has no form for %s; it is left out", result.stream, words)
        if unsaid:
            self.left_out[UNSUITED] += len(unsaid)

    def _detached(self, result: Result) -> Result:
        """The result without what is large in it, which is on its way."""
        detacher = Detacher(self.masks, partial(self.attach, result) if self.attach else None)
        predictions = detacher.predictions(result.predictions)
        if detacher.left_out:
            self.left_out[TOO_MANY] += detacher.left_out
        return result if predictions is result.predictions else replace(result, predictions=predictions)


class StreamOutput:
    """A stream's outputs, snapshots and replies."""

    def __init__(
        self, stream: str, thing: str, options: StreamOptions, transports: Mapping[str, Transport], folder: Path,
        context: Context, new_id: Callable[[], str] | None = None, answers: AnswerTopics | None = None,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._thing = thing
        self._new_id: Callable[[], str] = new_id or Ulids().new
        self._replies = transports[options.input.transport]
        self._ways = [transports[name] for name in _used(options)]
        self._answering = Answering(answers or AnswerTopics())
        self._filters = Filters(options.filter)
        self._outputs = [_output(output, options, transports, folder, context) for output in options.outputs]
        self._snapshots = _Snapshots(options, transports, folder) if options.snapshots else None
        self._models: dict[int, tuple[ModelMetadata, ModelFacts]] = {}

    def answerable(self, message: Message) -> Message:
        """The message; without its response topic where no answer may go there."""
        return self._answering.checked(message)

    def snapshot_wanted(self, frame: Frame, now: float) -> Snapshot | None:
        """Whether this frame's picture is to come back annotated."""
        return self._snapshots.wanted(frame.camera, now) if self._snapshots else None

    def put(self, frame: Frame, model: ModelMetadata, answer: Answer, total_ms: float, now: float) -> None:
        """Send an answer out as a result; raises ``VergeError`` when it cannot be made one."""
        result = self._result(frame, model, answer, total_ms)
        if frame.response_topic:
            self._reply(frame.response_topic, frame.correlation_data, _encode(result))
        if answer.snapshot and self._snapshots:
            self._snapshots.put(answer.snapshot, result, now)
        passed = self._filters.apply(result, now)
        if passed is None:
            return
        for output in self._outputs:
            kept = output.filters.apply(passed, now)
            if kept is not None:
                self._write(output, kept)

    def fail(self, frame: Frame, error: VergeError) -> None:
        """Tell a sender that asked for an answer why there is none."""
        if frame.response_topic:
            self._failure(frame.response_topic, frame.correlation_data, FrameFacts.of(frame), error)

    def refuse(self, message: Message, camera: str, sequence: int, error: VergeError) -> None:
        """Tell the sender of what is no picture, if it asked for an answer."""
        if message.response_topic:
            facts = FrameFacts(topic=message.topic, sequence=sequence, received_at=utc(time.time()), camera=camera)
            self._failure(message.response_topic, message.correlation_data, facts, error)

    def when_safe(self, call: Callable[[], None]) -> None:
        """Call once all that was put out so far is as safe as its transports make it."""
        for way in self._ways:
            call = partial(way.when_safe, call)
        call()

    @property
    def lost(self) -> Counter[str]:
        """Results and snapshots that were held back by a filter or could not be delivered, by reason."""
        counts: Counter[str] = Counter(self._filters.held_back)
        for output in self._outputs:
            counts.update(output.lost)
        if self._snapshots:
            counts.update(self._snapshots.lost)
        if self._answering.refused:
            counts[REFUSED] = self._answering.refused
        return counts

    def close(self) -> None:
        """Let go of files."""
        for output in self._outputs:
            output.sink.close()

    def _result(self, frame: Frame, model: ModelMetadata, answer: Answer, total_ms: float) -> Result:
        steps = answer.timing_ms
        return Result(
            id=self._new_id(),
            thing=self._thing,
            stream=self._stream,
            task=model.task,
            frame=FrameFacts.of(frame, width=answer.width, height=answer.height, damaged=answer.damaged),
            model=self._facts(model),
            predictions=answer.predictions,
            timing_ms=Timing(
                queue=round(max(0.0, total_ms - answer.worker_ms), 3),
                decode=steps["decode"],
                preprocess=steps["preprocess"],
                infer=steps["infer"],
                postprocess=steps["postprocess"],
                total=round(total_ms, 3),
            ),
        )

    def _facts(self, model: ModelMetadata) -> ModelFacts:
        """The model's facts, made once for each loaded model."""
        known = self._models.get(id(model))
        if known is None or known[0] is not model:
            facts = ModelFacts(model.name, model.version, model.digest, model.backend, decoder=model.decoder)
            self._models = {id(model): (model, facts)}
            return facts
        return known[1]

    def _write(self, output: _Output, result: Result) -> None:
        try:
            output.write(result)
        except VergeError:
            raise
        except Exception as error:  # a user's format may raise anything; it costs this result only
            log.exception("stream %s: a format failed", self._stream)
            raise ConfigError(f"the format failed: {error}", code="format-failed") from error

    def _failure(self, topic: str, correlation: bytes | None, facts: FrameFacts, error: VergeError) -> None:
        failure = Failure(id=self._new_id(), stream=self._stream, frame=facts, error=Reason.of(error))
        self._reply(topic, correlation, _encode(failure))

    def _reply(self, topic: str, correlation: bytes | None, payload: bytes) -> None:
        message = Message(topic, payload, qos=1, content_type="application/json", correlation_data=correlation)
        try:
            self._replies.publish(message)
        except VergeError as error:
            log.warning("stream %s: the answer for %s could not be sent: %s", self._stream, topic, error)


class _Snapshots:
    """Annotated pictures: when, and where to."""

    def __init__(self, options: StreamOptions, transports: Mapping[str, Transport], folder: Path) -> None:
        given = options.snapshots
        assert given is not None  # noqa: S101 asked by the caller
        self._pace = SnapshotPace(given)
        self._filters = Filters(given.filter)
        self._snapshot = Snapshot(quality=given.quality, max_side=given.max_side)
        self._folder = SnapshotFolder(under(folder, given.folder), given.keep) if given.folder else None
        publish = transports[given.transport or options.input.transport].publish
        self._topic = (
            TopicSink(publish, given.topic, content_type="image/jpeg", qos=0, retain=given.retain)
            if given.topic
            else None
        )

    def wanted(self, camera: str, now: float) -> Snapshot | None:
        return self._snapshot if self._pace.wanted(camera, now) else None

    def put(self, jpeg: bytes, result: Result, now: float) -> None:
        if self._filters.apply(result, now) is None:
            self._pace.give_back(result.frame.camera)
            return
        if self._folder:
            self._folder.write(jpeg, result)
        if self._topic:
            self._topic.write(jpeg, result)

    @property
    def lost(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for place in (self._folder, self._topic):
            if place:
                counts.update(place.lost)
        return counts


def _used(options: StreamOptions) -> set[str]:
    """The transports of a stream's answers and outputs; snapshots are of QoS 0."""
    outputs = (output for output in options.outputs if not (output.file or output.log))
    return {options.input.transport, *(output.transport or options.input.transport for output in outputs)}


def _output(
    options: OutputOptions, stream: StreamOptions, transports: Mapping[str, Transport], folder: Path, context: Context
) -> _Output:
    sink: Sink
    form = formats.load(options.format)
    attach: Attach | None = None
    if options.file:
        sink = FileSink(replace(options.file, path=str(under(folder, options.file.path))))
    elif options.log:
        sink = LogSink()
        attach = _nowhere
    else:
        sink = TopicSink(
            transports[options.transport or stream.input.transport].publish,
            options.topic,
            content_type=form.content_type,
            qos=options.qos,
            retain=options.retain,
            expiry_s=options.expiry_s,
        )
        attach = sink.attach
    if options.large in {"base64", "none"}:
        attach = None if options.large == "base64" else _nowhere
    return _Output(Filters(options.filter), form, context, sink, options.masks, attach)


def _nowhere(result: Result, number: int, data: bytes, content_type: str) -> bool:
    del result, number, data, content_type
    return False
