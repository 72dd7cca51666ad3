"""The client's end of ``management``: requests to the Jobs service on a broker, and its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agent.aws.jobs.service.job import JobError
from agent.aws.jobs.service.management import ANSWERS, BASE
from agent.errors import UnreachableError
from agent.mqtt.rpc import RpcClient, rpc_client
from agent.mqtt.transport import Transport

__all__ = ["Caller", "calling"]

_TIMEOUT_S = 5.0


class Caller:
    """Sends requests by ``rpc``; made by ``calling``."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc

    async def ask(self, verb: str, request: Mapping[str, Any] | bytes = b"", *, timeout_s: float = _TIMEOUT_S) -> Any:
        """The result, as JSON gives it; raises ``JobError``, or ``UnreachableError`` without an answer in time."""
        payload = request if isinstance(request, bytes) else msgspec.json.encode(request)
        try:
            answer = msgspec.json.decode(
                (await self._rpc.request(f"{BASE}/{verb}", payload, timeout_s=timeout_s)).payload
            )
        except TimeoutError:
            raise UnreachableError(
                f"no Jobs service answered within {timeout_s:g} s",
                code="no-jobs-service",
                hint="start one on this broker: verge jobs serve",
            ) from None
        if error := answer.get("error"):
            raise JobError(error["message"], code=error["code"], hint=error["hint"])
        return answer["result"]


@asynccontextmanager
async def calling(transport: Transport) -> AsyncIterator[Caller]:
    """A caller over an entered transport that speaks MQTT 5."""
    async with rpc_client(transport, ANSWERS) as rpc:
        yield Caller(rpc)
