"""The protocol over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from agent.edgeapi.openinference import messages
from agent.edgeapi.openinference.messages import PROTO
from agent.edgeapi.openinference.replies import status_of
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.server import Interface, StatusError
from agent.errors import ModelRefusedError, VergeError

__all__ = ["interface"]

_STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""By what HTTP calls it."""


def interface(service: OpenInference) -> Interface:
    """The rpcs of ``inference.GRPCInferenceService``."""
    rpcs = _Rpcs(service)
    named = {
        "ServerLive": rpcs.server_live,
        "ServerReady": rpcs.server_ready,
        "ModelReady": rpcs.model_ready,
        "ServerMetadata": rpcs.server_metadata,
        "ModelMetadata": rpcs.model_metadata,
        "ModelInfer": rpcs.infer,
    }
    return Interface(PROTO, {name: _told(rpc) for name, rpc in named.items()})


class _Rpcs:
    def __init__(self, service: OpenInference) -> None:
        self._service = service

    async def server_live(self, _request: Any) -> Any:
        return PROTO.ServerLiveResponse(live=True)

    async def server_ready(self, _request: Any) -> Any:
        return PROTO.ServerReadyResponse(ready=self._service.ready())

    async def model_ready(self, request: Any) -> Any:
        try:
            ready = self._service.model_ready(request.name, request.version)
        except ModelRefusedError:
            ready = False  # clients that wait for a model ask until it is there
        return PROTO.ModelReadyResponse(ready=ready)

    async def server_metadata(self, _request: Any) -> Any:
        return PROTO.ServerMetadataResponse(**self._service.metadata())

    async def model_metadata(self, request: Any) -> Any:
        return PROTO.ModelMetadataResponse(**self._service.model(request.name, request.version).metadata())

    async def infer(self, request: Any) -> Any:
        response = await self._service.infer(request.model_name, request.model_version, messages.asked(request))
        return messages.answered(response)


def _told(rpc: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """The rpc, its errors with the status that they have over HTTP."""

    async def answer(request: Any) -> Any:
        try:
            return await rpc(request)
        except VergeError as error:
            status = _STATUSES.get(status_of(error), grpc.StatusCode.INTERNAL)
            raise StatusError(status, error.message, code=error.code, hint=error.hint) from error

    return answer
