"""Lookout for Vision's edge agent as a component: its interface is served while the component is deployed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from agent.config.edgeapi import LookoutOptions
from agent.edgeapi.needed import servers
from agent.errors import ConfigError
from agent.greengrass.services.base import Configuration

if TYPE_CHECKING:
    from agent.edgeapi.wiring import Surroundings

__all__ = ["LookoutEdgeAgent"]

_SOCKET: Final = "unix:///tmp/aws.iot.lookoutvision.EdgeAgent.sock"
"""Where clients look for it."""


class LookoutEdgeAgent:
    """Serves the models that are deployed; ``group`` is whose members may connect, beside the agent's user."""

    def __init__(self, here: Surroundings, group: str = "") -> None:
        self._here = here
        self._group = group
        self._serving = AsyncExitStack()
        self._socket = ""

    async def apply(self, configuration: Configuration | None) -> None:
        """Listen at the configuration's ``Socket``; raises ``ConfigError`` and ``SocketInUseError``."""
        if configuration is None:
            await self._leave()
            return
        socket = configuration.get("Socket", _SOCKET)
        if not isinstance(socket, str) or not socket:
            hint = f"give a path with its scheme, as {_SOCKET}"
            raise ConfigError(f"Socket is {str(socket)[:100]!r}", code="socket-wrong", hint=hint)
        if socket == self._socket:
            return
        before = self._socket
        await self._leave()
        try:
            await self._enter(socket)
        except BaseException:
            if before:
                await self._enter(before)
            raise

    async def _enter(self, socket: str) -> None:
        options = LookoutOptions(socket=socket, group=self._group)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(servers().lookout(self._here, options))
            self._serving, self._socket = stack.pop_all(), socket

    async def _leave(self) -> None:
        self._socket = ""
        await self._serving.aclose()
