"""Requests and their responses over MQTT 5: a response topic of one's own, correlation data for every request.

The pattern is that of the standard (MQTT 5.0, section 4.10).  A broker drops a request that nobody subscribes to, so a
request without a response means that nobody is there, or that the link is down; the deadline decides.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.errors import VergeError
from agent.mqtt.transport import Message, Transport

__all__ = ["RpcClient", "rpc_client"]


class RpcClient:
    """Sends requests over ``transport`` and waits for their responses on ``response_topic``; made by ``rpc_client``."""

    def __init__(self, transport: Transport, response_topic: str) -> None:
        self.response_topic = response_topic
        self._transport = transport
        self._pending: dict[bytes, asyncio.Future[Message]] = {}

    async def request(self, topic: str, payload: bytes = b"", *, timeout_s: float) -> Message:
        """The response to ``payload`` on ``topic``.

        Raises ``TimeoutError`` when none comes in time, and ``PublishError`` or ``NotConnectedError`` when the broker
        does not get the request.
        """
        correlation = uuid.uuid4().bytes
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[correlation] = response

        def delivered(error: VergeError | None) -> None:
            if error is not None and not response.done():
                response.set_exception(error)

        try:
            self._transport.publish(
                Message(topic, payload, qos=1, response_topic=self.response_topic, correlation_data=correlation),
                delivered,
            )
            async with asyncio.timeout(timeout_s):
                return await response
        finally:
            del self._pending[correlation]

    def on_response(self, message: Message) -> None:
        """Hand a response to the request that it answers; one that nobody waits for is ignored."""
        response = self._pending.get(message.correlation_data or b"")
        if response is not None and not response.done():
            response.set_result(message)


@asynccontextmanager
async def rpc_client(transport: Transport, topic_prefix: str) -> AsyncIterator[RpcClient]:
    """A client over an entered transport that speaks MQTT 5; its response topic is a new one under ``topic_prefix``."""
    client = RpcClient(transport, f"{topic_prefix}{uuid.uuid4().hex}")
    transport.subscribe(client.response_topic, client.on_response, qos=1)
    try:
        yield client
    finally:
        transport.unsubscribe(client.response_topic, client.on_response)
