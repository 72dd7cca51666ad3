"""A second client beside the agent: it looks or listens, leaves no session behind and takes nobody's place.

IoT Core is visited as any broker with TLS and a certificate; the other ways to prove who one is are the agent's alone.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.config.transports import IotCoreOptions, MqttOptions, TlsOptions, TransportOptions
from agent.errors import BrokerUnreachableError, ConfigError
from agent.mqtt.client import MqttTransport

__all__ = ["WAIT_S", "Visit", "plain"]

WAIT_S = 5.0
"""How long a broker may take until it counts as unreachable."""


class Visit(MqttTransport):
    """A transport for a short visit; ``word`` sets its client id apart from the agent's."""

    def __init__(self, name: str, options: TransportOptions, word: str) -> None:
        super().__init__(name, _visiting(plain(name, options), word))

    async def reach(self) -> None:
        """Return when the broker is connected; raises ``BrokerUnreachableError`` with what kept it for ``WAIT_S``."""
        try:
            await self.wait_connected(WAIT_S)
        except BrokerUnreachableError as error:
            # Who waits on a terminal knows for how long, and for which broker.
            message = error.message.removeprefix(f"{self.name}: ").rpartition(" (waited ")[0]
            raise BrokerUnreachableError(message, hint=error.hint, code=error.code) from None


def plain(name: str, options: TransportOptions) -> MqttOptions:
    """The broker of a transport as paho reaches it; raises ``ConfigError`` where it cannot."""
    if not isinstance(options, IotCoreOptions):
        return options
    if options.way != "certificate" or options.proxy is not None:
        way = "through a proxy" if options.proxy is not None else f"with {options.way}"
        raise ConfigError(
            f"transport {name} is reached {way}, which only the running agent does",
            code="not-visitable",
            hint="ask it on a local broker: --broker, or -c with a transport of the type mqtt first",
        )
    alpn = (options.alpn_used,) if options.alpn_used else ()
    tls = TlsOptions(ca_file=options.ca_file, cert_file=options.cert_file, key_file=options.key_file, alpn=alpn)
    return MqttOptions(
        host=options.host,
        port=options.port_used,
        version="5",
        client_id=options.client_id,
        keepalive_s=options.keepalive_s,
        tls=tls,
    )


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
