"""The deployment shadow over a transport: hear, step, perform."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from typing import Any, Self

import msgspec

from agent.aws.jobs.events import Connected, Disconnected, Tick
from agent.aws.jobs.pace import Pace
from agent.aws.jobs.shadow import Shadow, due, step, told
from agent.aws.jobs.shadow_events import (
    CancelDeployment,
    Changed,
    Deployment,
    Effect,
    Event,
    Get,
    Got,
    Missing,
    Put,
    Rejected,
    Report,
    StartDeployment,
    Taken,
    Wanted,
)
from agent.aws.jobs.topics import PREFIX
from agent.errors import VergeError
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["NAME", "ShadowClient", "heard", "shadow_base"]

log = logging.getLogger(__name__)

NAME = "AWSManagedGreengrassV2Deployment"
_QOS = 1
_SPREAD = 0.2


class _State(msgspec.Struct, frozen=True):
    desired: dict[str, Any] | None = None
    reported: dict[str, Any] | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What the payloads of a shadow have in common."""

    state: _State | None = None
    version: int | None = None
    code: int | None = None
    message: str | None = None
    client_token: str | None = None


_decode = msgspec.json.Decoder(_Answer, strict=False).decode


def shadow_base(thing: str, prefix: str = PREFIX) -> str:
    """What every topic of the shadow begins with."""
    return f"{prefix}/things/{thing}/shadow/name/{NAME}"


def heard(base: str, topic: str, payload: bytes, session: str) -> Event | None:
    """The event that a message is; None for one that tells nothing.  Raises ``msgspec.DecodeError``."""
    kind = topic.removeprefix(f"{base}/")
    if kind == "update/documents":
        return None
    answer = _decode(payload)
    version, token, state = answer.version or 0, answer.client_token or "", answer.state or _State()
    event: Event | None = None
    match kind:
        case "get/accepted":
            event = Got(version, state.desired or {}, state.reported or {})
        case "get/rejected":
            event = Missing(answer.code or 0)
        case "update/accepted":
            event = Taken(token, version) if token.startswith(session) else Changed(version)
        case "update/rejected":
            event = Rejected(token, answer.code or 0)
        case "update/delta":
            event = Changed(version)
        case _:
            pass
    return event


class ShadowClient:
    """Takes the single-thing deployments of one thing while it is entered.

    ``on_deployment`` and ``on_cancel`` run on the event loop and must not block; ``nucleus_version`` is what the
    device says it is.
    """

    def __init__(
        self,
        transport: Transport,
        thing: str,
        *,
        on_deployment: Callable[[Deployment], None],
        on_cancel: Callable[[str], None],
        nucleus_version: str,
        prefix: str = PREFIX,
        pace: Pace | None = None,
    ) -> None:
        self._transport = transport
        self._base = shadow_base(thing, prefix)
        self._on_deployment = on_deployment
        self._on_cancel = on_cancel
        self._nucleus_version = nucleus_version
        self._state = Shadow(uuid.uuid4().hex[:12], pace or Pace(spread=random.uniform(0.0, _SPREAD)))
        self._filters = (f"{self._base}/get/+", f"{self._base}/update/+")
        self._timer: asyncio.TimerHandle | None = None
        self._entered = False

    @property
    def state(self) -> Shadow:
        """Where the conversation stands."""
        return self._state

    async def __aenter__(self) -> Self:
        self._entered = True
        for topic_filter in self._filters:
            self._transport.subscribe(topic_filter, self._message, qos=_QOS)
        self._transport.watch(self._link)
        if self._transport.state.connected:
            self._hear(Connected())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered = False
        for topic_filter in self._filters:
            self._transport.unsubscribe(topic_filter, self._message)
        if self._timer is not None:
            self._timer.cancel()

    def report(self, report: Report) -> None:
        """Have the shadow say so; only the last report counts."""
        self._hear(Wanted(report))

    def _link(self, state: LinkState) -> None:
        self._hear(Connected() if state.connected else Disconnected())

    def _message(self, message: Message) -> None:
        try:
            event = heard(self._base, message.topic, message.payload, self._state.session)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("what came on %r is no shadow: %s", message.topic, error)
            return
        if event is not None:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if not self._entered:
            return
        loop = asyncio.get_running_loop()
        self._state, effects = step(self._state, event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        when = due(self._state)
        self._timer = None if when is None else loop.call_at(when, self._hear, Tick())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        loop = asyncio.get_running_loop()
        match effect:
            case Get():
                self._publish("get", b"")
            case Put(token, report, version):
                reported = {**told(report), "ggcVersion": self._nucleus_version}
                update = {"state": {"reported": reported}, "version": version, "clientToken": token}
                self._publish("update", msgspec.json.encode(update))
            case StartDeployment(deployment):
                loop.call_soon(self._on_deployment, deployment)
            case CancelDeployment(arn):
                loop.call_soon(self._on_cancel, arn)

    def _publish(self, verb: str, payload: bytes) -> None:
        try:
            self._transport.publish(Message(f"{self._base}/{verb}", payload, qos=_QOS))
        except VergeError as error:
            # The request stays open and is repeated.
            log.warning("a shadow request did not go out: %s", error)
