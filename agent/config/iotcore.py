"""What the transport to AWS IoT Core can be told; the field names are the configuration's keys."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from agent.config.outbox import OutboxOptions
from agent.topics import valid_filter

__all__ = [
    "AuthorizerOptions",
    "BasicIngestOptions",
    "BatchOptions",
    "IotCoreLimits",
    "IotCoreOptions",
    "Pkcs11Options",
    "ProxyOptions",
    "SigV4Options",
    "Way",
]

_KIB, _MIB = 1024, 1024 * 1024
_AROUND_BYTES = _KIB
"""Of a publish around its payload: the longest topic and a batch's properties."""
_ALPN_PORT = 443
_REGION = re.compile(r"[^.]+\.(?:[^.]+\.)*iot\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")

Way: TypeAlias = Literal["certificate", "pkcs11", "sigv4", "authorizer"]
"""How the agent proves who it is."""
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Pkcs11Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A private key that stays in a security module; the certificate is ``cert_file``."""

    library: str
    """The module's PKCS#11 library, e.g. ``libsofthsm2.so``."""
    pin: str | None = None
    pin_file: str | None = None
    """Where the user's PIN is; only its owner may read the file."""
    slot: int | None = None
    token_label: str | None = None
    key_label: str | None = None


class SigV4Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """MQTT over a WebSocket whose request is signed with credentials of the SDK's default chain."""

    region: str = ""
    """Empty: the one in ``endpoint``."""


class AuthorizerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A custom authorizer; what it needs travels in the CONNECT's user name and password."""

    name: str = ""
    """Empty: the endpoint's default authorizer."""
    username: str = ""
    password: str | None = None
    password_file: str | None = None
    token_key: str = ""
    """The name under which the authorizer looks for the token."""
    token: str | None = None
    token_file: str | None = None
    signature: str = ""
    """Base64 of the token's signature, where the authorizer has signing enabled."""
    websockets: bool = False


class ProxyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An HTTP proxy to go through, by CONNECT."""

    host: str
    port: Port = 3128
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    allow_plaintext_password: bool = False
    """Send the password to a proxy on another machine, which is spoken with in the clear."""


class IotCoreLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the broker takes from one connection; the defaults are IoT Core's."""

    payload_bytes: Positive = 128 * _KIB
    topic_bytes: Positive = 256
    """Without the ``$aws/rules/<rule>/`` of Basic Ingest, as the next."""
    topic_slashes: Annotated[int, msgspec.Meta(ge=0)] = 7
    publishes_per_s: Positive = 100
    bytes_per_s: Positive = 512 * _KIB
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 100
    """Publishes that the broker has not acknowledged."""


class BatchOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Several messages of a topic in one publish; ``batching`` tells what a receiver gets.

    A batch goes out when any of its three bounds is reached.
    """

    topics: tuple[str, ...] = ("verge/+/results/#",)
    """Filters of what is batched, if its QoS is 1 or 2 and it is neither retained nor a request."""
    max_s: Seconds = 1.0
    max_messages: Positive = 100
    """1: nothing is batched, for those who only want ``gzip``."""
    max_bytes: Positive = 100_000
    """Of the batch before it is compressed."""
    gzip: bool = False
    """Compress what gets smaller by it; the user property ``content-encoding`` then says ``gzip``."""

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        _check(self.topics)


class BasicIngestOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results go straight to a rule, past the message broker and its price: no subscriber sees them."""

    rule: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]+$")]
    topics: tuple[str, ...] = ("verge/+/results/#",)

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        _check(self.topics)


def _check(filters: tuple[str, ...]) -> None:
    for each in filters:
        if not valid_filter(each):
            raise ValueError(f"{each!r} is no MQTT topic filter")


class IotCoreOptions(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="iotcore"
):
    """AWS IoT Core, or any MQTT 5 broker with mutual TLS in its place.

    The agent proves who it is in one way: ``cert_file`` with ``key_file`` or with ``pkcs11``, ``sigv4``, or
    ``authorizer``.
    """

    kind: ClassVar[str] = "iotcore"

    endpoint: str
    """Host name, for IoT Core that of the account: ``aws iot describe-endpoint --endpoint-type iot:Data-ATS``."""
    port: Port | None = None
    """Without it 8883, and 443 for ``sigv4`` and ``authorizer``."""
    alpn: str | None = None
    """The protocol to offer; without it what IoT Core wants on port 443.  Empty: none."""
    client_id: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """Empty: the thing's name."""
    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    pkcs11: Pkcs11Options | None = None
    sigv4: SigV4Options | None = None
    authorizer: AuthorizerOptions | None = None
    proxy: ProxyOptions | None = None
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=1200)] = 60
    """A ping that is not answered within half of it ends the connection."""
    connect_timeout_s: Seconds = 10.0
    """For each of the TCP connection and the broker's answer."""
    clean_start: bool = False
    """Begin without the session that an earlier process left."""
    session_expiry_s: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 604_800
    """How long the broker keeps the session after the link is lost."""
    receive_maximum: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 100
    """How many unacknowledged messages the broker may send."""
    max_queued_messages: Positive = 1000
    """Bound of what is published and not delivered yet, and of what arrived and is not handled yet."""
    max_queued_bytes: Positive = 64 * _MIB
    backoff_base_s: Seconds = 1.0
    backoff_cap_s: Seconds = 120.0
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
            said = " and ".join(ways) or "nothing"
            raise ValueError(f"name one of key_file (with cert_file), pkcs11, sigv4 and authorizer, not {said}")
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
        """The region that requests are signed for: as told, or the endpoint's."""
        found = _REGION.fullmatch(self.endpoint)
        return (self.sigv4.region if self.sigv4 else "") or (found[1] if found else "")

    @property
    def address(self) -> str:
        """Where the broker is, for people: ``host:port``."""
        return f"{self.endpoint}:{self.port_used}"
