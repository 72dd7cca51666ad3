"""Frames from topics: a subscription, and the acknowledgement of what is done with.

The transport calls the stream itself, so that a frame from a topic passes nothing on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from agent.mqtt.transport import Message, Transport
from agent.sources.base import Receive, Source, SourceState, SourceStatus
from agent.sources.retained import SeenPictures
from agent.topics import camera_of

__all__ = ["TopicSource"]

_NAMES = 1024


class TopicSource(Source):
    """A topic filter of a transport: with wildcards, each topic is a camera.

    ``holds``: a message is acknowledged when its frame is done, which makes the broker wait.  Of retained pictures
    those are passed over that ``seen`` knows, or all where they are not wanted (``retained``).
    """

    kind: ClassVar[Literal["topic"]] = "topic"
    pushes: ClassVar[bool] = True

    def __init__(
        self, transport: Transport, topic: str, *, qos: int = 0, holds: bool = False, retained: bool = True,
        seen: SeenPictures | None = None, changed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__(topic, changed)
        self.holds = holds
        self._transport = transport
        self._qos = qos
        self._retained = retained
        self._seen = seen
        self._cameras: dict[str, str] = {}
        self._receive: Receive | None = None

    def open(self, receive: Receive) -> None:
        """Subscribe."""
        self._receive = receive
        qos = 1 if self.holds else self._qos
        self._transport.subscribe(self.name, receive, qos=qos, manual_ack=self.holds)

    def close(self) -> None:
        """Unsubscribe; what is held can still be acknowledged."""
        if self._receive is not None:
            self._transport.unsubscribe(self.name, self._receive)
            self._receive = None
        if self._seen is not None:
            self._seen.close()

    def camera(self, message: Message) -> str:
        """What the filter's wildcards stand for."""
        topic = message.topic
        camera = self._cameras.get(topic)
        if camera is None:
            if len(self._cameras) >= _NAMES:
                self._cameras.clear()
            camera = self._cameras[topic] = camera_of(self.name, topic)
        return camera

    def passes_over(self, message: Message) -> bool:
        """Whether it is a retained picture that was there before, or that nobody wants."""
        if self._seen is not None:
            return self._seen.repeats(message.topic, message.payload, retained=message.retain)
        return message.retain and not self._retained

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message to the broker: it is done with."""
        self._transport.acknowledge(message)

    @property
    def hands_over(self) -> bool:
        """Whether frames that are not acknowledged now come to the next process."""
        return self.holds and self._transport.hands_over

    @property
    def status(self) -> SourceStatus:
        """Running while the broker is connected."""
        link = self._transport.state
        if self._receive is None:
            state, reason = SourceState.STOPPED, ""
        else:
            state, reason = (SourceState.RUNNING, "") if link.connected else (SourceState.WAITING, link.reason)
        return SourceStatus(kind=self.kind, name=self.name, state=state, reason=reason)
