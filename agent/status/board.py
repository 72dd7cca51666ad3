"""The agent's own state: retained topics that a dashboard can trust.

========================  ==================================================================================
topic                     when
========================  ==================================================================================
``…/status``              once everything is in place, on every connection from then on, and when a problem of
                          the agent's own comes or goes: online; on leaving, and as the last will: offline
``…/components/<model>``  whenever a model's workers change
``…/streams/<stream>``    when the state, model, or a kind of loss changes (at most once a second), and every
                          ``statistics_interval_s`` while frames come
========================  ==================================================================================

Everything is published anew when the link comes back, so what is retained is never older than the link.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from agent import __version__
from agent.errors import VergeError
from agent.inference.values import PoolState, PoolStatus
from agent.mqtt.transport import LinkState, Message, Transport
from agent.results.result import utc
from agent.streams.stream import Stream
from agent.topics import Topics

__all__ = ["POOL_STATES", "StatusBoard", "StreamReport", "agent_status"]

POOL_STATES: Final[Mapping[PoolState, str]] = {
    PoolState.STARTING: "STARTING",
    PoolState.RUNNING: "RUNNING",
    PoolState.BACKOFF: "ERRORED",
    PoolState.BROKEN: "BROKEN",
    PoolState.STOPPED: "FINISHED",
}
"""The state of a model's workers in the words of Greengrass, for topics and for components alike."""

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_SETTLE_S = 1.0
INSTANCE: Final = secrets.token_hex(4)
"""This run of the agent, among all that have the same thing's name."""


def agent_status(thing: str, state: str, since: float | None = None, facts: Mapping[str, Any] | None = None) -> bytes:
    """The payload of the status topic; the last will has no ``since``, and no facts."""
    payload: dict[str, Any] = {
        "state": state, "thing": thing, "version": __version__, "pid": os.getpid(), "host": platform.node(),
        "instance": INSTANCE,
    }  # fmt: skip
    if since is not None:
        payload["since"] = utc(since)
    return _encode(payload | dict(facts or {}))


class StreamReport:
    """What is published of a stream, and whether it changed in more than its numbers."""

    def __init__(self, stream: Stream, model: Callable[[str], PoolStatus]) -> None:
        self.name = stream.name
        self._stream = stream
        self._metrics = stream.metrics
        self._find = model
        self._since = time.time()
        self._state = ""
        self.stopped = False

    def _model(self) -> PoolStatus:
        return self._find(self._stream.options.model)

    def payload(self) -> dict[str, Any]:
        """The payload of the stream's topic."""
        metrics, status = self._metrics, self._model()
        state = PoolState.STOPPED if self.stopped else status.state
        if state.value != self._state:
            self._state, self._since = state.value, time.time()
        latency = metrics.latency()
        payload: dict[str, Any] = {
            "stream": self.name,
            "state": self._state,
            "model": _model_facts(status),
            "source": self._stream.source_status,
            "received": metrics.received,
            "answered": metrics.answered,
            "dropped": dict(metrics.dropped),
            "failed": dict(metrics.failed),
            "pending": metrics.pending,
            "damaged": metrics.damaged,
            "held_back": dict(self._stream.lost),
            "restarts": status.restarts,
            "fps": metrics.fps(time.monotonic()),
            "latency_ms": asdict(latency) if latency else None,
            "cameras": {name: asdict(camera) for name, camera in metrics.cameras.items()},
            "since": utc(self._since),
        }
        if status.reason:
            payload["reason"] = status.reason
        return payload

    def shape(self) -> tuple[Any, ...]:
        """Everything but the numbers: a change of it is published at once."""
        status = self._model()
        kinds = tuple(sorted({*self._metrics.dropped, *self._metrics.failed, *self._stream.lost}))
        source = self._stream.source_status
        model = status.state, status.reason, status.restarts, status.metadata
        facts = source.name, source.interval_s, source.state, source.reason, source.reconnects
        return *model, *facts, kinds, self._metrics.answered > 0

    def counts(self) -> tuple[int, ...]:
        """The numbers that a frame changes."""
        metrics = self._metrics
        return (
            metrics.received,
            metrics.answered,
            metrics.dropped.total(),
            metrics.failed.total(),
            sum(self._stream.lost.values()),
        )


class StatusBoard:
    """Publishes the retained topics while it is entered."""

    def __init__(self, thing: str, topics: Topics, transport: Transport, interval_s: float) -> None:
        self._thing = thing
        self._topics = topics
        self._transport = transport
        self._interval_s = interval_s
        self._since = time.time()
        self._streams: dict[str, StreamReport] = {}
        self._models: dict[str, PoolStatus] = {}
        self._others: dict[str, bytes] = {}
        self._remarks: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._facts: dict[str, Any] = {}
        self._problems: dict[str, dict[str, str]] = {}
        self._published: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {}
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._topics_published: set[str] = set()
        self._components: frozenset[str] = frozenset()
        self._ready = False
        self._open = False
        self._leaving = False

    @staticmethod
    def will(thing: str, topics: Topics) -> Message:
        """What the broker publishes for an agent that is gone."""
        return Message(topics.status, agent_status(thing, "offline"), qos=1, retain=True)

    async def __aenter__(self) -> Self:
        self._open = True
        self._transport.watch(self._on_link)
        if self._transport.state.connected:
            self._on_link(self._transport.state)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A link that comes back from now on must not say "online" after the goodbye.
        self._open = self._ready = False
        self._publish(self._topics.status, agent_status(self._thing, "offline", time.time()))

    def leaving(self) -> None:
        """What stops from now on stops with the agent: it stays on its topic, as finished."""
        self._leaving = True

    def ready(self) -> None:
        """Everything is in place: what is sent from now on is received."""
        self._ready = True
        if self._transport.state.connected:
            self._online()

    def problem(self, name: str, problem: VergeError | None) -> None:
        """What a person should know of the agent itself, under a name of its own until it is over (None)."""
        now = None
        if problem is not None:
            now = {"code": problem.code, "reason": problem.message, "hint": problem.hint or ""}
        before = self._problems.get(name)
        if now is None:
            self._problems.pop(name, None)
        elif before is None or any(before[key] != value for key, value in now.items()):
            self._problems[name] = {**now, "since": utc(time.time())}
        if self._problems.get(name) != before:
            self.publish_online()

    def add(self, stream: Stream) -> None:
        """Publish this stream from now on."""
        self._streams[stream.name] = StreamReport(stream, self.status)
        self.changed()

    def remove(self, stream: Stream) -> None:
        """Publish that this stream is stopped; or nothing of it any more, where the agent runs on without it."""
        report = self._streams.pop(stream.name)
        report.stopped = True
        if self._leaving:
            self._stream(report)
        else:
            self._published.pop(stream.name, None)
            self._clear(self._topics.stream(stream.name))

    def model(self, name: str, status: PoolStatus) -> None:
        """A model's workers changed.  Of a deployed one, ``name`` is ``component@version#…``."""
        self._models[name] = status
        self._component(name, status)
        if status.state is PoolState.STOPPED and "@" in name:
            del self._models[name]
            self._remarks.pop(name, None)
        self.changed()
        for listener in self._listeners:
            listener()

    def state_fact(self, key: str, fact: Any) -> None:
        """What stands on the status topic besides, as long as the agent is online."""
        if self._facts.get(key) != fact:
            self._facts[key] = fact
            if self._ready and self._transport.state.connected:
                self._online()

    def remark(self, name: str, why: str) -> None:
        """What a person should know of a model though it runs."""
        self._remarks[name] = why
        if name in self._models:
            self._component(name, self._models[name])

    def annotate(self, component: str, note: str) -> None:
        """What a person should know of a deployed model, whichever of its ways of running there are."""
        if self._notes.get(component, "") == note:
            return
        self._notes[component] = note
        for name, status in self._models.items():
            if name.partition("@")[0] == component:
                self._component(name, status)

    def component(self, name: str, payload: dict[str, Any]) -> None:
        """Retain how something that runs is, other than a model: ``state``, ``version``, ``reason``, ``since``."""
        self.retain(self._topics.component(name), _encode({"component": name, **payload}))

    def retain(self, topic: str, payload: bytes) -> None:
        """Retain something else of the agent's; it is published anew on every connection."""
        self._others[topic] = payload
        self._publish(topic, payload)

    def forget(self, name: str, *, handed_over: bool = False) -> None:
        """Something is gone for good, a model once its workers are: nothing is retained of it any more.

        Of a model that is loaded from now on (``handed_over``) its workers' status is.
        """
        topic = self._topics.component(name)
        self._others.pop(topic, None)
        if name in self._models and self._models[name].state is PoolState.STOPPED:
            del self._models[name]
            self._remarks.pop(name, None)
        if not handed_over:
            self._clear(topic)

    def active(self, components: Iterable[str], *, settled: bool) -> None:
        """Which components the device has; where that is ``settled``, everything of others is cleared."""
        self._components = frozenset(map(self._topics.component, components))
        if settled and not self._leaving:
            models = {self._topics.component(name.partition("@")[0]) for name in self._models}
            mine = self._topics.component_filter.removesuffix("+")
            for topic in [*self._topics_published]:
                if topic.startswith(mine) and topic not in self._components | models:
                    self._others.pop(topic, None)
                    self._clear(topic)

    def publishes(self, topic: str) -> bool:
        """Whether a retained topic is kept up by this agent."""
        return topic in self._topics_published or topic in self._components

    def publish_online(self) -> None:
        """Publish that the agent is online, if it is."""
        if self._open and self._ready and self._transport.state.connected:
            self._online()

    def publish_all(self) -> None:
        """Publish everything anew."""
        self._on_link(self._transport.state)

    def status(self, name: str) -> PoolStatus:
        """How a model's workers are, or were when they last reported."""
        return self._models.get(name, PoolStatus(PoolState.STOPPED if self._leaving else PoolState.STARTING))

    def watch(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called whenever a model's workers change, and some time after a stream did."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Something about a stream may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Publish stream reports until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            # Asked of the clock: a change that is already there is returned before the timeout is looked at.
            everything = loop.time() >= due
            if everything:
                due = loop.time() + self._interval_s
            self._changed.clear()
            self._publish_streams(everything=everything)
            for listener in self._listeners:
                listener()
            await asyncio.sleep(min(_SETTLE_S, self._interval_s))

    def _publish_streams(self, *, everything: bool) -> None:
        for report in self._streams.values():
            shape, counts = self._published.get(report.name, ((), ()))
            if report.shape() != shape or (everything and report.counts() != counts):
                self._stream(report)

    def _stream(self, report: StreamReport) -> None:
        self._published[report.name] = report.shape(), report.counts()
        self._publish(self._topics.stream(report.name), _encode(report.payload()))

    def _component(self, name: str, status: PoolStatus) -> None:
        remark = self._remarks.get(name, "")
        name, _, deployed = name.partition("@")
        if deployed and status.state is PoolState.STOPPED:
            # The version that goes is of no interest where another one stays.
            others = [
                other for key, other in self._models.items() if key.startswith(f"{name}@") and other is not status
            ]
            status = others[-1] if others else status
        payload = {
            "component": name,
            "state": POOL_STATES[status.state],
            "version": status.metadata.version if status.metadata else "",
            "reason": "; ".join(filter(None, (status.reason, remark, self._notes.get(name, "")))),
            "since": utc(time.time()),
            "model": _model_facts(status),
            "workers": status.workers,
            "restarts": status.restarts,
        }
        self._publish(self._topics.component(name), _encode(payload))

    def _on_link(self, state: LinkState) -> None:
        if not state.connected or not self._open:
            return
        if self._ready:
            self._online()
        for name, status in self._models.items():
            self._component(name, status)
        for topic, payload in self._others.items():
            self._publish(topic, payload)
        for report in self._streams.values():
            self._stream(report)

    def _online(self) -> None:
        facts = self._facts | ({"problems": [*self._problems.values()]} if self._problems else {})
        self._publish(self._topics.status, agent_status(self._thing, "online", self._since, facts))

    def _clear(self, topic: str) -> None:
        self._publish(topic, b"")
        self._topics_published.discard(topic)

    def _publish(self, topic: str, payload: bytes) -> None:
        self._topics_published.add(topic)
        message = Message(topic, payload, qos=1, retain=True, content_type="application/json")
        try:
            self._transport.publish(message)
        except VergeError as error:
            log.debug("%s waits for the link: %s", topic, error)


def _model_facts(status: PoolStatus) -> dict[str, Any] | None:
    model = status.metadata
    if model is None:
        return None
    return {
        "component": model.name,
        "version": model.version,
        "digest": model.digest,
        "backend": model.backend,
        "accelerator": model.accelerator,
        "task": model.task,
    }
