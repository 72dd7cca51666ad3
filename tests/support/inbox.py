"""Handlers that remember, and ways to wait for what a transport does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.errors import VergeError
from agent.mqtt.transport import LinkState, Message, Transport
from tests.support.until import PATIENCE_S


class Inbox:
    """A handler that remembers its messages, and can be waited on."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._came = asyncio.Event()

    def __call__(self, message: Message) -> None:
        """Take a message."""
        self.messages.append(message)
        self._came.set()

    @property
    def payloads(self) -> list[bytes]:
        """What the messages carried, in the order they came."""
        return [message.payload for message in self.messages]

    async def until(self, enough: Callable[[list[Message]], bool], timeout_s: float = PATIENCE_S) -> list[Message]:
        """The messages, once they are ``enough``."""
        async with asyncio.timeout(timeout_s):
            while not enough(self.messages):
                self._came.clear()
                await self._came.wait()
        return self.messages

    async def wait(self, count: int, timeout_s: float = PATIENCE_S) -> list[Message]:
        """The messages, once there are ``count``."""
        return await self.until(lambda messages: len(messages) >= count, timeout_s)


async def state_of(
    transport: Transport, wanted: Callable[[LinkState], bool], timeout_s: float = PATIENCE_S
) -> LinkState:
    """The link's state, once it is as wanted."""
    if wanted(transport.state):
        return transport.state
    found: asyncio.Future[LinkState] = asyncio.get_running_loop().create_future()
    transport.watch(lambda state: found.set_result(state) if wanted(state) and not found.done() else None)
    return await asyncio.wait_for(found, timeout_s)


async def connected(transport: Transport) -> LinkState:
    """The link's state, once it is up."""
    return await state_of(transport, lambda state: state.connected)


async def delivered(transport: Transport, message: Message, timeout_s: float = PATIENCE_S) -> None:
    """Publish, and return when the broker has it; raises what lost it."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_delivered(error: VergeError | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    transport.publish(message, on_delivered)
    await asyncio.wait_for(done, timeout_s)


async def subscribed(transport: Transport, topic: str) -> None:
    """Return when every subscription made so far is in force: its own message came back."""
    mark = Inbox()
    transport.subscribe(f"{topic}/mark", mark, qos=1)
    await delivered(transport, Message(f"{topic}/mark", b"", qos=1))
    await mark.wait(1)
    transport.unsubscribe(f"{topic}/mark", mark)
