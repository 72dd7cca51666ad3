"""The other end of ``management``: ask the Jobs service on a broker and wait for its answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agent.aws.jobs.service.job import JobError
from agent.aws.jobs.service.management import ANSWERS, BASE
from agent.errors import UnreachableError
from agent.mqtt.transport import Message, Transport

__all__ = ["Caller", "calling"]

_PATIENCE_S = 5.0


class Caller:
    """Asks over ``transport``; made by ``calling``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._open: dict[bytes, asyncio.Future[bytes]] = {}
        self.topic = f"{ANSWERS}{uuid.uuid4().hex}"

    async def ask(self, verb: str, request: Mapping[str, Any] | bytes = b"", *, timeout_s: float = _PATIENCE_S) -> Any:
        """The result, as JSON gives it; raises ``JobError``, or ``UnreachableError`` when nobody answers in time."""
        token = uuid.uuid4().bytes
        answered = self._open[token] = asyncio.get_running_loop().create_future()
        payload = request if isinstance(request, bytes) else msgspec.json.encode(request)
        self._transport.publish(
            Message(f"{BASE}/{verb}", payload, qos=1, response_topic=self.topic, correlation_data=token)
        )
        try:
            told = msgspec.json.decode(await asyncio.wait_for(answered, timeout_s))
        except TimeoutError:
            raise UnreachableError(
                f"no Jobs service answered within {timeout_s:g} s",
                code="no-jobs-service",
                hint="start one on this broker: verge jobs serve",
            ) from None
        finally:
            del self._open[token]
        if error := told.get("error"):
            raise JobError(error["message"], code=error["code"], hint=error["hint"])
        return told["result"]

    def hear(self, message: Message) -> None:
        """Take an answer; one that nobody waits for is ignored."""
        waiting = self._open.get(message.correlation_data or b"")
        if waiting is not None and not waiting.done():
            waiting.set_result(message.payload)


@asynccontextmanager
async def calling(transport: Transport) -> AsyncIterator[Caller]:
    """A caller over an entered transport that speaks MQTT 5."""
    caller = Caller(transport)
    transport.subscribe(caller.topic, caller.hear, qos=1)
    try:
        yield caller
    finally:
        transport.unsubscribe(caller.topic, caller.hear)
