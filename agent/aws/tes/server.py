"""The token exchange service on the loopback.

One request a connection, a bounded head within a bounded time, a bounded number at once: whatever a component sends,
nothing of the agent waits for it.  ``localhost`` means 127.0.0.1 and ::1, so both are taken: whoever held the other
would be sent the components' tokens.  The provider blocks, so it is asked in a thread, by one at a time; who asks
meanwhile gets its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import Self

from agent.aws.credentials import Credentials, CredentialsProvider
from agent.aws.detached import detached
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.aws.tes import exchange
from agent.aws.tes.exchange import MAX_HEAD_BYTES, PATH, URI_VARIABLE, Response
from agent.errors import ConfigError

__all__ = ["TokenExchange"]

log = logging.getLogger(__name__)

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_TRIES = 20
_MAX_CONNECTIONS = 64


class TokenExchange:
    """Answers components while the block lasts.

    ``may`` says whether the component with this token gets credentials, ``port`` 0 takes a free one.  A head has to
    come within ``head_s``, credentials within ``upstream_s``.
    """

    def __init__(
        self,
        credentials: CredentialsProvider,
        may: Callable[[str], bool],
        *,
        port: int = 0,
        head_s: float = 5.0,
        upstream_s: float = 10.0,
    ) -> None:
        self._credentials = credentials
        self._may = may
        self._port = port
        self._head_s = head_s
        self._upstream_s = upstream_s
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._asking: Future[Credentials] | None = None

    async def __aenter__(self) -> Self:
        """Listen; raises ``ConfigError`` when the port is taken."""
        sockets = _listening(self._port)
        self._port = sockets[0].getsockname()[1]
        for listening in sockets:
            self._servers.append(await asyncio.start_server(self._on_connection, sock=listening, limit=MAX_HEAD_BYTES))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def uri(self) -> str:
        """Where components ask."""
        return f"http://localhost:{self._port}{PATH}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a component that may ask; its token is in ``SVCUID`` anyway."""
        return {URI_VARIABLE: self.uri}

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= _MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="agent.aws.tes")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write((await self._answer(reader)).encode())
            await asyncio.wait_for(writer.drain(), self._head_s)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            log.debug("a component hung up on the token exchange")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> Response:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._head_s)
        except asyncio.LimitOverrunError:
            return Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except TimeoutError:
            return Response(HTTPStatus.REQUEST_TIMEOUT)
        token = exchange.ask(head)
        return token if isinstance(token, Response) else await self._exchanged(token)

    async def _exchanged(self, token: str) -> Response:
        if not self._may(token):
            log.info("credentials refused: a token that is unknown or of a component that may not")
            return Response(HTTPStatus.FORBIDDEN)
        try:
            async with asyncio.timeout(self._upstream_s):
                return exchange.given(await self._ask())
        except TimeoutError:
            return Response(HTTPStatus.GATEWAY_TIMEOUT)
        except (CredentialsError, CredentialsUnreachableError) as error:
            log.warning("no credentials for a component: %s", error)
            return exchange.failed(error)

    async def _ask(self) -> Credentials:
        if self._asking is None or self._asking.done():
            self._asking = detached(self._credentials.get, "verge-tes")
        return await asyncio.shield(asyncio.wrap_future(self._asking))


def _listening(port: int) -> list[socket.socket]:
    """A listening socket for each address of ``localhost`` that there is, all with one port."""
    reason = os.strerror(errno.EADDRNOTAVAIL)
    for _ in range(1 if port else _TRIES):
        taken: list[socket.socket] = []
        try:
            for family, host in _LOOPBACK:
                taken += _bound(family, host, taken[0].getsockname()[1] if taken else port)
        except OSError as error:  # a free port of one may be taken on the other
            reason = error.strerror or str(error)
            for bound in taken:
                bound.close()
        else:
            if taken:
                return taken
    raise ConfigError(
        f"the token exchange cannot listen on port {port or 'any'} of localhost: {reason}",
        code="tes-port-taken",
        hint="have the agent take a free port",
    )


def _bound(family: socket.AddressFamily, host: str, port: int) -> list[socket.socket]:
    """The bound socket; none when this machine does not have the address."""
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in _NO_FAMILY:
            return []
        raise
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        if error.errno in _NO_FAMILY:
            return []
        raise
    return [made]
