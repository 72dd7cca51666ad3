"""A client of the interfaces for programs: rpcs by name, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from agent.edgeapi.protos import Messages
from agent.edgeapi.wiring import Surroundings
from agent.inference.plane import InferencePlane


class Client:
    """Calls the rpcs of one service."""

    def __init__(self, messages: Messages, channel: grpc.aio.Channel) -> None:
        self.proto = messages
        self._channel = channel

    async def call(self, rpc: str, **fields: Any) -> Any:
        """The response; raises ``grpc.aio.AioRpcError``."""
        ((service, rpcs),) = self.proto.services().items()
        request, response = rpcs[rpc]
        method = self._channel.unary_unary(
            f"/{service}/{rpc}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return await method(request(**fields))

    async def refused(self, rpc: str, **fields: Any) -> str:
        """The status with which a request is refused."""
        try:
            answer = await self.call(rpc, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        raise AssertionError(f"{rpc} was answered: {answer}")


@asynccontextmanager
async def client(messages: Messages, socket: Path) -> AsyncIterator[Client]:
    """A client without limits on messages."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"unix://{socket}", options=limits) as channel:
        yield Client(messages, channel)


@asynccontextmanager
async def surroundings(folder: Path, **more: Any) -> AsyncIterator[Surroundings]:
    """What servers work with, and nothing else of an agent."""
    async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, folder / "quarantine") as plane:
        yield Surroundings("box", folder, folder, plane, **more)
