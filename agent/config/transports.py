"""What a transport can be told; the field names are the configuration's keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from agent.config.iotcore import IotCoreOptions
from agent.config.outbox import OutboxOptions

__all__ = ["IotCoreOptions", "MemoryOptions", "MqttOptions", "TlsOptions", "TransportOptions"]

_MIB = 1024 * 1024


class TlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the broker proves who it is, and how the agent does."""

    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    cert_file: str | None = None
    """PEM of the agent's certificate, chain included."""
    key_file: str | None = None
    insecure: bool = False
    """Take any certificate: encrypted, but to whom is unknown."""
    alpn: tuple[str, ...] = ()
    """Protocols to offer, e.g. ``x-amzn-mqtt-ca`` for IoT Core on port 443."""


class MqttOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="mqtt"):
    """One MQTT broker and how to speak with it."""

    kind: ClassVar[str] = "mqtt"

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 1883
    version: Literal["5", "3.1.1", "auto"] = "5"
    """``auto`` tries 5 and falls to 3.1.1 when the broker refuses it."""
    client_id: str = ""
    """Empty: the broker chooses one."""
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    """Where the password is; only its owner may read the file."""
    allow_plaintext_password: bool = False
    """Send the password over a link to another machine that is not encrypted."""
    tls: TlsOptions | None = None
    websocket_path: str | None = None
    """Speak MQTT over WebSockets on this path."""
    keepalive_s: int = 60
    connect_timeout_s: float = 10.0
    """For each of the TCP connection, the TLS handshake and the broker's answer."""
    clean_start: bool = True
    """Begin without the session that an earlier process left; on MQTT 3.1.1: keep none at all."""
    session_expiry_s: int = 0
    """How long the broker keeps the session after the link is lost; MQTT 5 only."""
    receive_maximum: int = 100
    """How many unacknowledged messages the broker may send; MQTT 5 only."""
    max_packet_bytes: int | None = None
    """Refuse to publish larger packets than this, whatever the broker says."""
    max_queued_messages: int = 1000
    """Bound of what is published and not delivered yet."""
    max_queued_bytes: int = 64 * _MIB
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 30.0
    outbox: OutboxOptions | None = None
    """With this table, what is published with QoS 1 or 2 waits on disk, not in memory."""

    @property
    def address(self) -> str:
        """Where the broker is, for people: ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MemoryOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bus inside this process; transports that name the same ``bus`` meet there."""

    kind: ClassVar[str] = "memory"

    bus: str = "default"


TransportOptions: TypeAlias = MqttOptions | IotCoreOptions
"""What ``[transports.X]`` can be; ``type`` tells which, and is ``mqtt`` where it is not there."""
