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


class _Error(msgspec.Struct, frozen=True):
    message: str
    code: str
    hint: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    error: _Error | None = None
    result: Any = None


class Caller:
    """Sends requests by ``rpc``; made by ``calling``."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc

    async def ask(self, verb: str, request: Mapping[str, Any] | bytes = b"", *, timeout_s: float = _TIMEOUT_S) -> Any:
        """The result, as JSON gives it; raises ``JobError``, or ``UnreachableError`` without an answer in time."""
        payload = request if isinstance(request, bytes) else msgspec.json.encode(request)
        try:
            message = await self._rpc.request(f"{BASE}/{verb}", payload, timeout_s=timeout_s)
            answer = msgspec.json.decode(message.payload, type=_Answer)
        except TimeoutError:
            raise UnreachableError(
                f"no Jobs service answered within {timeout_s:g} s",
                code="no-jobs-service",
                hint="start one on this broker: verge jobs serve",
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreachableError(
                f"what answered to {BASE}/{verb} is no Jobs service: {error}",
                code="bad-answer",
                hint=f"see to it that nobody else may publish below {ANSWERS}",
            ) from error
        if answer.error is not None:
            raise JobError(answer.error.message, code=answer.error.code, hint=answer.error.hint)
        return answer.result


@asynccontextmanager
async def calling(transport: Transport) -> AsyncIterator[Caller]:
    """A caller over an entered transport that speaks MQTT 5."""
    async with rpc_client(transport, ANSWERS) as rpc:
        yield Caller(rpc)
