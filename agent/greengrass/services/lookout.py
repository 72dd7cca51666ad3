"""Lookout for Vision's edge agent as a component: its interface is served while the component is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.config.edgeapi import LookoutOptions
from agent.edgeapi.needed import servers
from agent.errors import ConfigError
from agent.greengrass.services.base import Configuration, Serving

if TYPE_CHECKING:
    from agent.edgeapi.surroundings import Surroundings

__all__ = ["LookoutEdgeAgent"]

_SOCKET: Final = "unix:///tmp/aws.iot.lookoutvision.EdgeAgent.sock"
"""Where clients look for it."""


class LookoutEdgeAgent:
    """Serves the models that are deployed; ``group`` is whose members may connect, beside the agent's user."""

    def __init__(self, here: Surroundings, group: str = "") -> None:
        self._group = group
        self._serving: Serving[LookoutOptions] = Serving(lambda options: servers().lookout(here, options))

    async def apply(self, configuration: Configuration | None) -> None:
        """Listen at the configuration's ``Socket``; raises ``ConfigError`` and ``SocketInUseError``."""
        await self._serving.change(None if configuration is None else self._read(configuration))

    def _read(self, configuration: Configuration) -> LookoutOptions:
        socket = configuration.get("Socket", _SOCKET)
        if not isinstance(socket, str) or not socket:
            hint = f"give a path with its scheme, as {_SOCKET}"
            raise ConfigError(f"Socket is {str(socket)[:100]!r}", code="socket-wrong", hint=hint)
        return LookoutOptions(socket=socket, group=self._group)
