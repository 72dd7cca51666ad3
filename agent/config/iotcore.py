"""The parts of a transport to AWS IoT Core: how a device is let in, quotas, batches, the way past the broker."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

from msgspec import Meta, Struct

from agent.config.bounds import (
    Count,
    Host,
    MemoryBytes,
    Name,
    PacketBytes,
    PathText,
    Port,
    ReceiveMaximum,
    Text,
    Timeout,
)
from agent.config.outbox import check_filters
from agent.topics import matches

__all__ = [
    "AuthorizerOptions",
    "BasicIngestOptions",
    "BatchOptions",
    "IotCoreLimits",
    "Pkcs11Options",
    "ProxyOptions",
    "SigV4Options",
]

_KIB: Final = 1024
_RULES: Final = "$aws/rules/"


class Pkcs11Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A private key that stays in a security module; the certificate is ``cert_file``."""

    library: PathText
    """The module's PKCS#11 library, e.g. ``libsofthsm2.so``."""
    pin: Text | None = None
    pin_file: PathText | None = None
    """Where the user's PIN is; only its owner may read the file."""
    slot: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    token_label: Name | None = None
    key_label: Name | None = None


class SigV4Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """MQTT over a WebSocket whose request is signed with credentials of the SDK's default chain."""

    region: Name = ""
    """Empty: the one in ``endpoint``."""


class AuthorizerOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A custom authorizer; what it needs travels in the CONNECT's user name and password."""

    name: Name = ""
    """Empty: the endpoint's default authorizer."""
    username: Text = ""
    password: Text | None = None
    password_file: PathText | None = None
    token_key: Text = ""
    """The name under which the authorizer looks for the token."""
    token: Text | None = None
    token_file: PathText | None = None
    signature: Text = ""
    """Base64 of the token's signature, where the authorizer has signing enabled."""
    websockets: bool = False


class ProxyOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An HTTP proxy to go through, by CONNECT."""

    host: Host
    port: Port = 3128
    username: Text | None = None
    password: Text | None = None
    password_file: PathText | None = None
    allow_plaintext_password: bool = False
    """Send the password to a proxy on another machine, which is spoken with in the clear."""

    @property
    def url(self) -> str:
        """The proxy as programs take it, with its password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = ":".join(quote(part, safe="") for part in (self.username, self.password) if part is not None)
        return f"http://{who}{'@' if who else ''}{host}:{self.port}"


class IotCoreLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the broker takes from one connection; the defaults are IoT Core's."""

    payload_bytes: PacketBytes = 128 * _KIB
    topic_bytes: Annotated[int, Meta(ge=1, le=65_535)] = 256
    """Without the ``$aws/rules/<rule>/`` of Basic Ingest, as the next."""
    topic_slashes: Annotated[int, Meta(ge=0, le=65_535)] = 7
    publishes_per_s: Count = 100
    bytes_per_s: MemoryBytes = 512 * _KIB
    in_flight: ReceiveMaximum = 100
    """Publishes that the broker has not acknowledged."""


class BatchOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Several messages of a topic in one publish; ``batching`` tells what a receiver gets.

    A batch goes out when any of its three bounds is reached.
    """

    topics: tuple[Text, ...] = ("verge/+/results/#",)
    """Filters of what is batched, if its QoS is 1 or 2 and it is neither retained nor a request."""
    max_s: Timeout = 1.0
    max_messages: Count = 100
    """1: nothing is batched, for those who only want ``gzip``."""
    max_bytes: PacketBytes = 100_000
    """Of the batch before it is compressed."""
    gzip: bool = False
    """Compress what gets smaller by it; the user property ``content-encoding`` then says ``gzip``."""

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        check_filters(self.topics)


class BasicIngestOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Results go straight to a rule, past the message broker and its price: no subscriber sees them."""

    rule: Annotated[str, Meta(pattern="^[A-Za-z0-9_]+$")]
    topics: tuple[Text, ...] = ("verge/+/results/#",)

    def __post_init__(self) -> None:
        """Refuse what is no filter."""
        check_filters(self.topics)

    def topic_used(self, topic: str, *, retain: bool) -> str:
        """The topic that takes a message to the rule, if it is one for the rule."""
        if retain or not any(matches(topic_filter, topic) for topic_filter in self.topics):
            return topic
        return f"{_RULES}{self.rule}/{topic}"
