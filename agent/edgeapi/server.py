"""One gRPC server: tables of rpcs in, status codes out.

grpcio is imported with this module, and so only where a server is asked for.  Its threads receive and parse, and what
answers, the plane of inference, lives on the event loop: each rpc is handed over once.  (grpcio's own asyncio server
wakes the loop a dozen times for each request, parses megabytes on it, and takes a quarter more processor time.)  An rpc
is a coroutine from request to response; what it raises of ours becomes a status code by the table of its service,
anything else is a fault, logged, and ``INTERNAL``.

Everything is bounded: messages by ``max_message_bytes``, rpcs at once and their threads by ``at_once`` (what comes
beyond is refused with ``RESOURCE_EXHAUSTED`` before it is read), and what waits for a client that does not read by
gRPC's own flow control.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from agent.edgeapi.protos import Messages
from agent.edgeapi.sockets import TcpPlace, UnixPlace
from agent.errors import ConfigError, VergeError

__all__ = ["CODES", "Answering", "Interface", "Server", "StatusError"]

log = logging.getLogger(__name__)

Answering: TypeAlias = Callable[[Any], Awaitable[Any]]
Codes: TypeAlias = Mapping[str, grpc.StatusCode]

_LONGEST = 1000
"""Letters of an error: gRPC tells it in a header, and a client takes 8 KiB of those."""
_LEAVE_S = 2.0
"""How long rpcs in work may go on when a server leaves."""

CODES: Final[Codes] = {
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too-many-bytes": grpc.StatusCode.INVALID_ARGUMENT,
    "tensor-wrong": grpc.StatusCode.INVALID_ARGUMENT,
    "segment-wrong": grpc.StatusCode.INVALID_ARGUMENT,
    "model-not-loaded": grpc.StatusCode.NOT_FOUND,
    "model-unloaded": grpc.StatusCode.NOT_FOUND,
    "model-missing": grpc.StatusCode.NOT_FOUND,
    "model-exists": grpc.StatusCode.ALREADY_EXISTS,
    "models-too-many": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "model-broken": grpc.StatusCode.FAILED_PRECONDITION,
}
"""The status of an error's code, where a service says nothing else; ``UNKNOWN`` for what stands nowhere."""


class StatusError(VergeError):
    """An error with the status that a service's documentation gives it."""

    def __init__(self, status: grpc.StatusCode, message: str, **more: Any) -> None:
        super().__init__(message, **more)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: grpc.StatusCode
    text: str


@dataclass(frozen=True, slots=True)
class Interface:
    """The rpcs of one ``.proto``, and the status codes that its documentation gives to errors."""

    messages: Messages
    rpcs: Mapping[str, Answering]
    codes: Codes = field(default_factory=dict)

    def handlers(self, loop: asyncio.AbstractEventLoop) -> list[grpc.GenericRpcHandler]:
        """As gRPC wants them, each handing over to ``loop``."""
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    name: grpc.unary_unary_rpc_method_handler(
                        self._method(request.FromString, self.rpcs[name], loop),
                        response_serializer=response.SerializeToString,
                    )
                    for name, (request, response) in rpcs.items()
                    if name in self.rpcs
                },
            )
            for service, rpcs in self.messages.services().items()
        ]

    def _method(
        self, parse: Callable[[bytes], Any], answer: Answering, loop: asyncio.AbstractEventLoop
    ) -> Callable[[bytes, grpc.ServicerContext], Any]:
        async def answered(request: Any) -> Any:
            try:
                return await answer(request)
            except VergeError as error:
                return _Refusal(self._status(error), str(error)[:_LONGEST])
            except Exception:  # a fault of ours costs this request, and is told
                log.exception("a request failed")
                return _Refusal(grpc.StatusCode.INTERNAL, "a fault of the agent's; its log says more")

        def method(payload: bytes, context: grpc.ServicerContext) -> Any:
            # Parsed here and not by grpcio, which would write each request that is none into the log.
            try:
                request = parse(payload)
            except DecodeError:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be parsed")
            outcome = asyncio.run_coroutine_threadsafe(answered(request), loop)

            def leave() -> None:
                outcome.cancel()

            # A client that goes, or the end of the server, ends what is in work for it.
            if not context.add_callback(leave):
                leave()
            try:
                response = outcome.result()
            except CancelledError:
                response = _Refusal(grpc.StatusCode.CANCELLED, "the server leaves")
            if isinstance(response, _Refusal):
                context.abort(response.status, response.text)
            return response

        return method

    def _status(self, error: VergeError) -> grpc.StatusCode:
        if isinstance(error, StatusError):
            return error.status
        return self.codes.get(error.code) or CODES.get(error.code, grpc.StatusCode.UNKNOWN)


class _Token(grpc.ServerInterceptor):
    """Refuses rpcs that do not bring the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

        def refuse(_requests: Any, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or another")

        # As a stream, which is refused unread: one message would be waited for, in one of the few threads.
        self._refuse: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(refuse)

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of an rpc, or one that refuses it."""
        brought = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        brought = brought.encode() if isinstance(brought, str) else brought
        if hmac.compare_digest(brought, self._wanted):
            return continuation(handler_call_details)
        return self._refuse


class Server:
    """A server for some interfaces at some places; entering listens, leaving lets rpcs in work finish.

    ``token`` is what clients have to bring as ``authorization: Bearer …``, where there is one.
    """

    def __init__(
        self, places: Sequence[UnixPlace | TcpPlace], interfaces: Sequence[Interface], *, max_message_bytes: int,
        at_once: int, token: str = "",
    ) -> None:  # fmt: skip
        self._places = places
        loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(at_once, "agent.edgeapi")
        self._server = grpc.server(
            self._threads,
            interceptors=[_Token(token)] if token else None,
            handlers=[handler for interface in interfaces for handler in interface.handlers(loop)],
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # A tensor comes in one go, and not in pieces of 64 KiB that each wait to be asked for.
                ("grpc.http2.lookahead_bytes", 4 << 20),
            ),
            maximum_concurrent_rpcs=at_once,
        )

    async def __aenter__(self) -> Self:
        for place in self._places:
            place.claim()
            try:
                self._listen(place)
            except RuntimeError as error:
                raise ConfigError(f"nothing can listen at {place.address}: {error}", code="socket-wrong") from error
        self._server.start()
        try:
            for place in self._places:
                place.open_up()
        except BaseException:
            self._server.stop(None)
            raise
        log.info("listening at %s", ", ".join(place.address for place in self._places))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self._server.stop(_LEAVE_S)
        await asyncio.to_thread(left.wait)
        self._threads.shutdown(wait=False)

    def _listen(self, place: UnixPlace | TcpPlace) -> None:
        if isinstance(place, UnixPlace) or (tls := place.tls) is None:
            self._server.add_insecure_port(place.address)
            return
        place.context()  # says what is wrong with the files in words
        key, certificate = (Path(file or "").read_bytes() for file in (tls.key_file or tls.cert_file, tls.cert_file))
        authority = Path(tls.ca_file).read_bytes() if tls.ca_file else None
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=authority, require_client_auth=authority is not None
        )
        self._server.add_secure_port(place.address, credentials)
