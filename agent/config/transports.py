"""How a broker is reached, and what waits for it on disk: the tables ``[transports.X]``.

A broker is a plain one, AWS IoT Core, or what a Greengrass nucleus gives its components.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from agent.config.bounds import (
    MIB,
    ClientId,
    Count,
    Host,
    MemoryBytes,
    Name,
    OptionalPath,
    PacketBytes,
    PathText,
    Port,
    ReceiveMaximum,
    SessionSeconds,
    Text,
    Timeout,
)
from agent.config.iotcore import (
    AuthorizerOptions,
    BasicIngestOptions,
    BatchOptions,
    IotCoreLimits,
    Pkcs11Options,
    ProxyOptions,
    SigV4Options,
)
from agent.config.outbox import OutboxOptions, check_filters
from agent.config.secrets import TlsFiles, check_plaintext, loopback
from agent.errors import ConfigError

__all__ = [
    "AuthorizerOptions",
    "BasicIngestOptions",
    "BatchOptions",
    "IotCoreLimits",
    "IotCoreOptions",
    "LinkSecurity",
    "MqttOptions",
    "NucleusOptions",
    "OutboxOptions",
    "Pkcs11Options",
    "ProxyOptions",
    "SigV4Options",
    "TlsOptions",
    "TransportBase",
    "TransportOptions",
    "Way",
]

_KIB: Final = 1024
_AROUND_BYTES: Final = _KIB
"""Of a publish around its payload: the longest topic and a batch's properties."""
_ALPN_PORT: Final = 443
_LONGEST_ID: Final = 128
_MOST_IN_FLIGHT: Final = 65_535
_BATCHES_ABREAST: Final = 4
_REGION = re.compile(r"[^.]+\.(?:[^.]+\.)*iot\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")

"""MQTT writes the length of a packet in four bytes of seven bits."""
Way: TypeAlias = Literal["certificate", "pkcs11", "sigv4", "authorizer"]
"""How the agent proves who it is."""


class TlsOptions(TlsFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the broker proves who it is, and how the agent does."""

    insecure: bool = False
    """Take any certificate: encrypted, but to whom is unknown."""
    alpn: tuple[Name, ...] = ()
    """Protocols to offer, e.g. ``x-amzn-mqtt-ca`` for IoT Core on port 443."""


class LinkSecurity(NamedTuple):
    """What a connection proves: who could have written what comes over it."""

    loopback: bool
    """The broker is on this machine."""
    tls: bool
    """Encrypted, and the broker proved who it is."""
    client_authenticated: bool
    """The agent proved who it is, so that the broker can tell who may publish what."""
    rules: Literal["broker", "iot-core"] = "broker"
    """Whose rules say who may do what: the broker's own, or AWS IoT policies."""


class TransportBase:
    """What the agent asks of every transport's options; the answers here are those of a broker like any other.

    A transport's options have the fields that are named here, an ``address`` and a ``security``.
    """

    __slots__ = ()

    kind: ClassVar[str]
    """``type`` in the table."""
    outbox: OutboxOptions | None
    """With this table, what is published with QoS 1 or 2 waits on disk, not in memory."""
    max_queued_messages: int
    """Bound of what is published and not delivered yet."""
    max_queued_bytes: int
    """The same in bytes of payloads."""

    @property
    def receive_maximum(self) -> int:
        """How many unacknowledged messages the broker may send; 1 where it waits for no acknowledgement."""
        return 1

    @property
    def outbox_used(self) -> OutboxOptions | None:
        """The outbox, as it is best for this broker."""
        return self.outbox

    @property
    def reads_itself(self) -> bool:
        """Whether the agent may subscribe to its own status topics, and there may be two of one name."""
        return True

    @property
    def own_client(self) -> str:
        """Why only the agent's own client reaches the broker (through a proxy …); empty where any MQTT client does."""
        return ""

    @property
    def tls_used(self) -> TlsOptions | None:
        """The certificates and keys of the connection; None where there are none."""
        return None

    @property
    def proxy_url(self) -> str | None:
        """The proxy that the connection goes through, with its password; None where there is none."""
        return None

    @property
    def aws_files(self) -> TlsFiles | None:
        """The certificate and key by which AWS knows the device, where the transport has them."""
        return None

    @property
    def provisioned(self) -> IotCoreOptions | None:
        """These options, where the identity is a certificate in files that provisioning makes and rotates."""
        return None

    def visiting(self, name: str) -> MqttOptions:
        """How any MQTT client reaches the broker of the transport ``name``; raises ``ConfigError`` where none does."""
        raise ConfigError(
            f"transport {name} is reached {self.own_client}, which only the running agent does",
            code="not-visitable",
            hint="ask it on a local broker: --broker, or -c with a transport of the type mqtt first",
        )

    def asking(self, name: str, thing: str) -> MqttOptions:
        """How the broker is asked what the agent may do: by a second client, without a session."""
        del thing
        options = self.visiting(name)
        client_id = f"{options.client_id}-doctor" if options.client_id else ""
        return replace(options, client_id=client_id, clean_start=True, session_expiry_s=0)

    def named(self, thing: str) -> Self:
        """With what follows from the thing's name; raises ``ConfigError`` for a name that cannot be used."""
        del thing
        return self

    def topic_used(self, topic: str, *, retain: bool) -> str:
        """The topic on which a message for ``topic`` is really sent."""
        del retain
        return topic

    def check_passwords(self, name: str) -> None:
        """Raise ``ConfigError`` where ``transports.<name>`` would send a password in the clear and may not."""


class MqttOptions(
    TransportBase, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="mqtt"
):
    """One MQTT broker and how to speak with it."""

    kind: ClassVar[str] = "mqtt"

    host: Host = "127.0.0.1"
    port: Port = 1883
    version: Literal["5", "3.1.1", "auto"] = "auto"
    """``auto`` tries 5 and falls to 3.1.1 where the broker refuses it or hangs up on it."""
    client_id: Text = ""
    """Empty: the broker chooses one."""
    username: Text | None = None
    password: Text | None = None
    password_file: PathText | None = None
    """Where the password is; only its owner may read the file."""
    allow_plaintext_password: bool = False
    """Send the password over a link to another machine that is not encrypted."""
    tls: TlsOptions | None = None
    websocket_path: PathText | None = None
    """Speak MQTT over WebSockets on this path."""
    keepalive_s: Annotated[int, Meta(ge=0, le=65_535)] = 60
    """0: the connection is not watched."""
    connect_timeout_s: Timeout = 10.0
    """For each of the TCP connection, the TLS handshake and the broker's answer."""
    clean_start: bool = True
    """Begin without the session that an earlier process left; on MQTT 3.1.1: keep none at all."""
    session_expiry_s: SessionSeconds = 0
    """How long the broker keeps the session after the link is lost; MQTT 5 only."""
    receive_maximum: ReceiveMaximum = 100
    """How many unacknowledged messages the broker may send; MQTT 5 only."""
    max_packet_bytes: PacketBytes | None = None
    """Refuse to publish larger packets than this, whatever the broker says."""
    max_queued_messages: Count = 1000
    """Bound of what is published and not delivered yet."""
    max_queued_bytes: MemoryBytes = 64 * MIB
    backoff_base_s: Timeout = 0.5
    backoff_cap_s: Timeout = 30.0
    outbox: OutboxOptions | None = None
    """With this table, what is published with QoS 1 or 2 waits on disk, not in memory."""

    @property
    def address(self) -> str:
        """Where the broker is, for people: ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def security(self) -> LinkSecurity:
        """What a connection proves."""
        certificate = self.tls is not None and self.tls.cert_file is not None
        password = self.password is not None or self.password_file is not None
        proven = self.tls is not None and not self.tls.insecure
        return LinkSecurity(loopback(self.host), proven, certificate or password)

    @property
    def tls_used(self) -> TlsOptions | None:
        """The certificates and keys of the connection; None where there are none."""
        return self.tls

    def visiting(self, name: str) -> MqttOptions:
        """How any MQTT client reaches the broker: as the agent does."""
        del name
        return self

    def check_passwords(self, name: str) -> None:
        """Raise ``ConfigError`` where ``transports.<name>`` would send a password in the clear and may not."""
        allowed, has = self.allow_plaintext_password, self.password is not None
        check_plaintext(name, self.host, tls=self.tls is not None, password=has, allowed=allowed)


class IotCoreOptions(
    TransportBase, TlsFiles, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="iotcore"
):
    """AWS IoT Core, or any MQTT 5 broker with mutual TLS in its place.

    The agent proves who it is in one way: ``cert_file`` with ``key_file`` or with ``pkcs11``, ``sigv4``, or
    ``authorizer``.
    """

    kind: ClassVar[str] = "iotcore"

    endpoint: Host
    """Host name, for IoT Core that of the account: ``aws iot describe-endpoint --endpoint-type iot:Data-ATS``."""
    port: Port | None = None
    """Without it 8883, and 443 for ``sigv4`` and ``authorizer``."""
    alpn: Name | None = None
    """The protocol to offer; without it what IoT Core wants on port 443.  Empty: none."""
    client_id: ClientId = ""
    """Empty: the thing's name."""
    pkcs11: Pkcs11Options | None = None
    sigv4: SigV4Options | None = None
    authorizer: AuthorizerOptions | None = None
    proxy: ProxyOptions | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=1200)] = 60
    """A ping that is not answered within half of it ends the connection."""
    connect_timeout_s: Timeout = 10.0
    """For each of the TCP connection and the broker's answer."""
    clean_start: bool = False
    """Begin without the session that an earlier process left."""
    session_expiry_s: SessionSeconds = 604_800
    """How long the broker keeps the session after the link is lost."""
    receive_maximum: ReceiveMaximum = 100
    """How many unacknowledged messages the broker may send."""
    max_queued_messages: Count = 1000
    """Bound of what is published and not delivered yet, and of what arrived and is not handled yet."""
    max_queued_bytes: MemoryBytes = 64 * MIB
    backoff_base_s: Timeout = 1.0
    backoff_cap_s: Timeout = 120.0
    limits: IotCoreLimits = IotCoreLimits()
    batch: BatchOptions | None = None
    basic_ingest: BasicIngestOptions | None = None
    outbox: OutboxOptions | None = None
    """With this table, what is published with QoS 1 or 2 waits on disk, not in memory."""

    def __post_init__(self) -> None:
        """Refuse what is no way, or more than one, to prove who the agent is."""
        ways = [way for way in ("pkcs11", "sigv4", "authorizer") if getattr(self, way) is not None]
        if self.key_file is not None:
            ways.append("key_file")
        if len(ways) != 1:
            named = " and ".join(ways) or "nothing"
            raise ValueError(f"name one of key_file (with cert_file), pkcs11, sigv4 and authorizer, not {named}")
        if (self.cert_file is not None) != (ways[0] in {"pkcs11", "key_file"}):
            raise ValueError("cert_file goes together with key_file or pkcs11")
        if self.sigv4 is not None and not self.region:
            raise ValueError("sigv4.region is needed: endpoint does not name one")
        most = min(self.limits.payload_bytes, self.limits.bytes_per_s - _AROUND_BYTES)
        if self.batch is not None and self.batch.max_bytes > most:
            raise ValueError(f"batch.max_bytes is above the {most} bytes that limits allow")

    @property
    def way(self) -> Way:
        """How the agent proves who it is."""
        if self.pkcs11 is not None:
            return "pkcs11"
        if self.sigv4 is not None:
            return "sigv4"
        return "certificate" if self.authorizer is None else "authorizer"

    @property
    def host(self) -> str:
        """Where the broker is, named as for other transports."""
        return self.endpoint

    @property
    def websockets(self) -> bool:
        """Whether MQTT is spoken over a WebSocket."""
        return self.sigv4 is not None or (self.authorizer is not None and self.authorizer.websockets)

    @property
    def port_used(self) -> int:
        """The port to connect to."""
        return self.port or (8883 if self.cert_file else _ALPN_PORT)

    @property
    def alpn_used(self) -> str | None:
        """The protocol to offer in the TLS handshake."""
        if self.alpn is not None:
            return self.alpn or None
        if self.authorizer is not None:
            return None if self.websockets else "mqtt"
        if self.port_used != _ALPN_PORT:
            return None
        return "http/1.1" if self.websockets else "x-amzn-mqtt-ca"

    @property
    def region(self) -> str:
        """The region that requests are signed for: the one given, or the endpoint's."""
        match = _REGION.fullmatch(self.endpoint)
        return (self.sigv4.region if self.sigv4 else "") or (match[1] if match else "")

    @property
    def address(self) -> str:
        """Where the broker is, for people: ``host:port``."""
        return f"{self.endpoint}:{self.port_used}"

    @property
    def security(self) -> LinkSecurity:
        """What a connection proves: each way is TLS, and proves who the agent is."""
        return LinkSecurity(loopback(self.endpoint), tls=True, client_authenticated=True, rules="iot-core")

    @property
    def own_client(self) -> str:
        """Why only the agent's own client reaches the broker; empty where any MQTT client does."""
        if self.proxy is not None:
            return "through a proxy"
        return "" if self.way == "certificate" else f"with {self.way}"

    @property
    def tls_used(self) -> TlsOptions:
        """The certificates and keys of the connection."""
        alpn = (self.alpn_used,) if self.alpn_used else ()
        return TlsOptions(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file, alpn=alpn)

    @property
    def proxy_url(self) -> str | None:
        """The proxy that the connection goes through, with its password; None where there is none."""
        return self.proxy.url if self.proxy is not None else None

    @property
    def aws_files(self) -> TlsFiles:
        """The certificate and key by which AWS knows the device."""
        return self

    @property
    def provisioned(self) -> IotCoreOptions | None:
        """These options, where the identity is a certificate in files that provisioning makes and rotates."""
        return self if self.way == "certificate" else None

    @property
    def outbox_used(self) -> OutboxOptions | None:
        """The outbox, with so many in flight that batches get full: else each waits for its time, half empty."""
        if self.outbox is None or self.batch is None:
            return self.outbox
        enough = min(_BATCHES_ABREAST * self.batch.max_messages, self.max_queued_messages)
        return replace(self.outbox, in_flight=max(self.outbox.in_flight, enough))

    @property
    def reads_itself(self) -> bool:
        """Policies name what a device subscribes to, and a client's name is its thing's."""
        return False

    def named(self, thing: str) -> IotCoreOptions:
        """IoT Core knows a client by the name of its thing."""
        if self.client_id:
            return self
        if len(thing.encode()) > _LONGEST_ID:
            raise ConfigError(
                f"thing is {len(thing)} characters long, and IoT Core takes {_LONGEST_ID}",
                code="bad-thing",
                hint="give it a shorter name, or the transport a client_id",
                path="thing",
            )
        return replace(self, client_id=thing)

    def visiting(self, name: str) -> MqttOptions:
        """How any MQTT client reaches the broker, with certificate and key files; raises ``ConfigError``."""
        if self.own_client:
            return super().visiting(name)
        return MqttOptions(
            host=self.endpoint,
            port=self.port_used,
            version="5",
            client_id=self.client_id,
            keepalive_s=self.keepalive_s,
            tls=self.tls_used,
        )

    def asking(self, name: str, thing: str) -> MqttOptions:
        """How IoT Core is asked what the agent may do: only as the thing itself, in its own session."""
        return replace(
            self.visiting(name),
            client_id=self.client_id or thing,
            connect_timeout_s=self.connect_timeout_s,
            clean_start=False,
            session_expiry_s=self.session_expiry_s,
            receive_maximum=_MOST_IN_FLIGHT,  # what waits unacknowledged must not hold back what is waited for
        )

    def topic_used(self, topic: str, *, retain: bool) -> str:
        """The topic on which a message is sent: to a rule, where Basic Ingest says so."""
        return topic if self.basic_ingest is None else self.basic_ingest.topic_used(topic, retain=retain)

    def check_passwords(self, name: str) -> None:
        """Raise ``ConfigError`` where the password of the proxy would be sent in the clear and may not."""
        if (proxy := self.proxy) is not None:
            allowed, has = proxy.allow_plaintext_password, proxy.password is not None
            check_plaintext(f"{name}.proxy", proxy.host, tls=None, password=has, allowed=allowed)


class NucleusOptions(
    TransportBase, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="greengrass"
):
    """The nucleus of AWS IoT Greengrass that runs the agent as a component, and through it AWS IoT Core."""

    kind: ClassVar[str] = "greengrass"

    socket: OptionalPath = ""
    """The nucleus's socket; empty: where the nucleus tells its components that it is."""
    token: Text | None = None
    """Who the component is; without it what the nucleus gave it."""
    token_file: PathText | None = None
    """Where the token is; only its owner may read the file."""
    local_topics: tuple[Text, ...] = ("cameras/#",)
    """Filters of the topics that are the device's own: the nucleus's local publish/subscribe carries them, AWS IoT Core
    all others.  Frames stay on the device, for they are larger and more than IoT Core takes; what the agent says of
    itself and its results are for others, and need what only IoT Core has: QoS 1, properties, retained messages."""
    connect_timeout_s: Timeout = 10.0
    """Until the nucleus has said whether it knows the token."""
    max_payload_bytes: PacketBytes = 128 * _KIB
    """Of a message to IoT Core; larger ones are refused."""
    max_queued_messages: Count = 1000
    """Bound of what is published and not taken by the nucleus yet."""
    max_queued_bytes: MemoryBytes = 64 * MIB
    backoff_base_s: Timeout = 0.5
    backoff_cap_s: Timeout = 30.0
    outbox: OutboxOptions | None = None
    """With this table, what is published with QoS 1 or 2 waits on disk, not in memory."""

    def __post_init__(self) -> None:
        """Refuse what is no filter, and a path that is another one for each working folder."""
        check_filters(self.local_topics)
        if self.socket and not self.socket.startswith("/"):
            raise ValueError("socket has to be an absolute path")

    @property
    def address(self) -> str:
        """Where the nucleus is, for people."""
        return self.socket or "the Greengrass nucleus"

    @property
    def security(self) -> LinkSecurity:
        """Nothing of who wrote what comes: each component and cloud client that the nucleus and its policies let."""
        return LinkSecurity(loopback=False, tls=False, client_authenticated=False)

    @property
    def reads_itself(self) -> bool:
        """Policies name what a component subscribes to, and a nucleus runs it once."""
        return False

    @property
    def own_client(self) -> str:
        """Why only the agent's own client reaches the broker."""
        return "through a Greengrass nucleus"


TransportOptions: TypeAlias = MqttOptions | IotCoreOptions | NucleusOptions
"""What ``[transports.X]`` can be; ``type`` says which, and is ``mqtt`` where it is left out."""
