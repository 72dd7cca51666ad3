"""A second client beside the agent: it looks or listens, leaves no session behind and takes nobody's place.

IoT Core is visited as any broker with TLS and a certificate; the other ways to prove who one is are the agent's alone.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.config.transports import MqttOptions, TransportOptions
from agent.errors import BrokerUnreachableError
from agent.mqtt.client import MqttTransport

__all__ = ["WAIT_S", "Visit"]

WAIT_S = 5.0
"""How long a broker may take until it counts as unreachable."""


class Visit(MqttTransport):
    """A transport for a short visit; ``word`` sets its client id apart from the agent's."""

    def __init__(self, name: str, options: TransportOptions, word: str) -> None:
        super().__init__(name, _visiting(options.visiting(name), word))

    async def reach(self) -> None:
        """Return when the broker is connected; raises ``BrokerUnreachableError`` with what kept it for ``WAIT_S``."""
        try:
            await self.wait_connected(WAIT_S)
        except BrokerUnreachableError:
            raise self.trouble from None  # who waits on a terminal knows for how long, and for which broker


def _visiting(options: MqttOptions, word: str) -> MqttOptions:
    return replace(
        options,
        # A broker ends the older of two clients with one id: that would be the agent.
        client_id=f"{options.client_id}-{word}" if options.client_id else "",
        clean_start=True,
        session_expiry_s=0,
        connect_timeout_s=min(options.connect_timeout_s, WAIT_S / 2),
        backoff_cap_s=min(options.backoff_cap_s, 1.0),
    )
