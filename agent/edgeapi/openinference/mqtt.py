"""The protocol over MQTT 5: requests with a response topic, and what is retained of each model.

=====================================================  =============================================================
topic below ``verge/<thing>/v2``                       what it is
=====================================================  =============================================================
``models/<model>[/versions/<version>]/infer``          requests, with the bodies that HTTP has
``models/<model>``                                     retained: its metadata
``models/<model>/ready``                               retained: whether it can answer now; nothing once it is gone
(the topic itself)                                     retained: the server's metadata
=====================================================  =============================================================

A request says where it wants its answer by MQTT 5's response topic or, from clients of MQTT 3.1.1, by the parameter
``response_topic`` of its JSON; correlation data comes back.  The user property ``Inference-Header-Content-Length`` is
HTTP's header, and ``status`` of the answer is HTTP's status.  Model and version are topic levels: what MQTT gives a
meaning to is an underscore.

A request is dropped, and counted by its reason, where no answer may go to its topic, where it is retained (it would be
answered anew at each connection), where it expired before its answer, and where too many are in work and it has no
topic on which that could be said.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from agent.edgeapi.openinference import body, replies
from agent.edgeapi.openinference.body import HEADER_LENGTH
from agent.edgeapi.openinference.replies import Reply
from agent.edgeapi.openinference.service import OpenInference
from agent.errors import NotConnectedError, PublishError, VergeError
from agent.inference.plane import InferencePlane
from agent.mqtt.replies import REFUSED, Answering, AnswerTopics
from agent.mqtt.transport import LinkState, Message, Transport
from agent.topics import Topics, level

__all__ = ["MqttBounds", "MqttServer"]

log = logging.getLogger(__name__)

_READ_S: Final = 5.0
"""How long after a connection what an earlier run has retained is looked for."""
_REPORT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class MqttBounds:
    """What requests may take up."""

    at_once: int = 16
    all_bytes: int = 256 << 20
    json_bytes: int = 16 << 20


class MqttServer:
    """Answers requests on a transport, and retains what there is to ask, from entering to leaving.

    ``report`` gets what was dropped, by reason, some time after it changed.
    """

    def __init__(
        self,
        service: OpenInference,
        plane: InferencePlane,
        transport: Transport,
        topics: Topics,
        *,
        answers: AnswerTopics | None = None,
        bounds: MqttBounds | None = None,
        report: Callable[[Mapping[str, int]], None] = lambda _counts: None,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._service = service
        self._plane = plane
        self._transport = transport
        self._answering = Answering(answers or AnswerTopics())
        self._bounds = bounds or MqttBounds()
        self._report = report
        self._base = f"{topics.base}/v2"
        self._models = f"{self._base}/models"
        self._requests = (f"{self._models}/+/infer", f"{self._models}/+/versions/+/infer")
        self._retained: dict[str, bytes] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._held = 0
        self._reading: asyncio.TimerHandle | None = None
        self._reporting: asyncio.TimerHandle | None = None
        self._open = True

    async def __aenter__(self) -> Self:
        """Listen for requests."""
        self._unwatch = self._plane.watch(self._retain)
        self._transport.watch(self._on_link)
        for topic_filter in self._requests:
            self._transport.subscribe(topic_filter, self._on_request, qos=1)
        self._retain()
        self._on_link(self._transport.state)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False
        self._unwatch()
        for topic_filter in self._requests:
            self._transport.unsubscribe(topic_filter, self._on_request)
        self._end_reading()
        if self._reporting is not None:
            self._reporting.cancel()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        for topic in [*self._retained]:
            self._publish(Message(topic, b"", qos=1, retain=True))

    # -- requests ------------------------------------------------------------------------------------------------

    def _on_request(self, message: Message) -> None:
        if message.retain:
            self._drop("retained-request")
            return
        checked = self._answering.checked(message)
        if message.response_topic and not checked.response_topic:
            self._drop(REFUSED)
            return
        if len(self._working) >= self._bounds.at_once or self._held + len(message.payload) > self._bounds.all_bytes:
            self._drop("busy")
            busy = NotConnectedError("too many requests are in work", code="busy", hint="ask later")
            self._send(message, replies.refused(busy))
            return
        self._held += len(message.payload)
        task = asyncio.get_running_loop().create_task(self._answer(message), name="agent.edgeapi.mqtt")
        self._working.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            self._held -= len(message.payload)

        task.add_done_callback(done)

    async def _answer(self, message: Message) -> None:
        try:
            async with asyncio.timeout(message.expiry_s):
                message, reply = await self._replied(message)
        except TimeoutError:
            self._drop("expired")
            return
        if message.response_topic:
            self._send(message, reply)

    async def _replied(self, message: Message) -> tuple[Message, Reply]:
        """The answer, and the request with the topic on which it wants it; without one there is nothing to be done."""
        try:
            told = dict(message.user_properties)
            request = body.asked(message.payload, body.header_length(told.get(HEADER_LENGTH)), self._bounds.json_bytes)
            if not message.response_topic:
                message = self._answering.checked(replace(message, response_topic=request.response_topic or None))
                if not message.response_topic:
                    self._drop(REFUSED if request.response_topic else "no-response-topic")
                    return message, Reply(400, ())
            name, version = self._named(message.topic)
            length, parts = body.answered(await self._service.infer(name, version, request), request)
            return message, Reply(200, parts, length)
        except VergeError as error:
            if not message.response_topic:
                self._drop("no-response-topic")
            return message, replies.refused(error)
        except Exception:  # a fault of ours costs this request, and is told
            log.exception("a request failed")
            return message, Reply.of({"error": "a fault of the agent's; its log says more"}, 500)

    def _named(self, topic: str) -> tuple[str, str]:
        """The model and the version that the levels of a topic mean; as they are where none has such levels."""
        levels = topic.removeprefix(f"{self._models}/").split("/")
        model, version = levels[0], levels[2] if len(levels) == 4 else ""  # noqa: PLR2004 versions/… in between
        name = next((name for name in self._service.models if level(name) == model), model)
        actual = self._service.model(name).version
        return name, actual if level(actual) == version else version

    def _send(self, request: Message, reply: Reply) -> None:
        if not request.response_topic:
            return
        properties = [("status", str(reply.status))]
        if reply.json_length is not None:
            properties.append((HEADER_LENGTH, str(reply.json_length)))
        answer = Message(
            request.response_topic, b"".join(reply.parts), qos=request.qos, content_type=reply.content_type,
            correlation_data=request.correlation_data, user_properties=tuple(properties), expiry_s=request.expiry_s,
        )  # fmt: skip
        try:
            self._transport.publish(answer)
        except PublishError as error:
            self._drop(error.code)
            if reply.status < 400:  # noqa: PLR2004 the answer is too long for the broker, and its error is not
                self._send(request, replies.refused(error))
        except VergeError as error:
            self._drop(error.code)

    # -- what is retained ----------------------------------------------------------------------------------------

    def _retain(self) -> None:
        """Publish what changed of what there is to ask, and clear what is gone."""
        if not self._open:
            return
        wanted = dict(self._wanted())
        for topic in self._retained.keys() - wanted:
            self._publish(Message(topic, b"", qos=1, retain=True))
        for topic, payload in wanted.items():
            if self._retained.get(topic) != payload:
                self._publish(_retained(topic, payload))
        self._retained = wanted

    def _wanted(self) -> Iterable[tuple[str, bytes]]:
        yield self._base, body.encode(self._service.metadata())
        for name in self._service.models:
            topic = f"{self._models}/{level(name)}"
            try:
                yield topic, body.encode(self._service.model(name).metadata())
                ready = self._service.model_ready(name)
            except VergeError:  # it was never loaded since it was revived
                ready = False
            yield f"{topic}/ready", body.encode({"name": name, "ready": ready})

    def _on_link(self, state: LinkState) -> None:
        if not state.connected or not self._open:
            return
        for topic, payload in self._retained.items():
            self._publish(_retained(topic, payload))
        if self._reading is None:
            for topic_filter in (f"{self._models}/+", f"{self._models}/+/ready"):
                self._transport.subscribe(topic_filter, self._on_retained, qos=1)
            self._reading = asyncio.get_running_loop().call_later(_READ_S, self._end_reading)

    def _end_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            for topic_filter in (f"{self._models}/+", f"{self._models}/+/ready"):
                self._transport.unsubscribe(topic_filter, self._on_retained)

    def _on_retained(self, message: Message) -> None:
        if message.retain and message.payload and message.topic not in self._retained:
            self._publish(Message(message.topic, b"", qos=1, retain=True))

    def _publish(self, message: Message) -> None:
        try:
            self._transport.publish(message)
        except VergeError as error:  # with the next connection it is published anew
            log.debug("%s is not published: %s", message.topic, error)

    # -- counts --------------------------------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(_REPORT_S, self._told)

    def _told(self) -> None:
        self._reporting = None
        self._report(dict(self.dropped))


def _retained(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, qos=1, retain=True, content_type="application/json")
