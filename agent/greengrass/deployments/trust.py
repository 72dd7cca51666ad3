"""Who may deploy: where a document came from, who signed it, and what the owner allows.

*Links.*  A document is taken from IoT Core, from a TLS connection that proved who the broker is and who we are,
and from this machine.  From anything else it is taken only with a signature of a trusted key, or when the owner
switched the rule off by name.

*Signatures.*  A signed document travels in an envelope that holds its exact bytes, so that nothing has to agree
on a canonical JSON::

    {"document": "<base64>", "signatures": [{"key": "<id>", "signature": "<base64 of 64 bytes>"}]}

A recipe's signatures lie beside it in ``<recipe>.sig``: the same without ``document``.  What is signed begins with
a line that says what it is, so that a recipe's signature is worth nothing under a document.  A signature by an
unknown key counts as none; one by a trusted key that does not fit means that somebody changed the content.

*Replay.*  A document may say inside the signed bytes for whom it is (``thing``, or a ``configurationArn`` of a
thing) and until when (``expires``); for another thing, or later, it is refused on every link.  Its
``creationTimestamp`` keeps it from being taken after a newer one: that is for the queue to see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self, TypeAlias, TypeVar

import msgspec

from agent.config.deployments import Accept
from agent.config.transports import TransportOptions
from agent.greengrass.deployments.errors import DeploymentRejectedError
from agent.greengrass.deployments.keys import PublicKey, decoded

__all__ = [
    "MAX_BYTES",
    "Accept",
    "Link",
    "LinkKind",
    "NotTrustedError",
    "Opened",
    "Sidecar",
    "Signature",
    "SignedEnvelope",
    "SignedKind",
    "TrustDecision",
    "TrustPolicy",
    "decide",
    "open_document",
    "recipe_signer",
    "signed_content",
]

MAX_BYTES = 1024 * 1024
"""The most a signed document or recipe may have."""

_MAX_ENVELOPE_BYTES = MAX_BYTES * 4 // 3 + 4096


class NotTrustedError(DeploymentRejectedError):
    """A document or recipe was changed after signing, is for another thing, or has expired."""

    default_code = "ACCESS_DENIED"


class LinkKind(StrEnum):
    """What a document came over."""

    IOT_CORE = "iot-core"
    BROKER = "broker"
    LOCAL = "local"
    """Nothing outside this process and its owner's command line."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a document came over, and what that connection has proved."""

    kind: LinkKind
    loopback: bool = False
    tls: bool = False
    """Encrypted, and the broker proved who it is."""
    client_authenticated: bool = False
    """We proved who we are, by certificate or password, so that the broker knows who may publish what."""

    @classmethod
    def of(cls, options: TransportOptions) -> Self:
        """The link to a broker as it is configured."""
        security = options.security
        return cls(LinkKind(security.rules), security.loopback, security.tls, security.client_authenticated)

    @property
    def on_this_machine(self) -> bool:
        """Whether nobody outside could have written what comes over it."""
        return self.loopback or self.kind is LinkKind.LOCAL


@dataclass(frozen=True, slots=True)
class TrustDecision:
    """Whether a document is taken, why, and whether each artifact it brings in needs a digest."""

    accepted: bool
    reason: str
    digests: bool = True


def decide(link: Link, signed_by: str | None, accept: Accept) -> TrustDecision:
    """Whether a document that came over this link, signed by this trusted key or by none, is taken."""
    digests = signed_by is not None or not link.on_this_machine
    if signed_by is not None:
        return TrustDecision(accepted=True, reason=f"it is signed by {signed_by}", digests=digests)
    if accept == "anything-from-anyone":
        return TrustDecision(accepted=True, reason="the configuration takes anything from anyone", digests=digests)
    if accept == "signed":
        why = "it is not signed by a trusted key, and the configuration takes nothing else"
        return TrustDecision(accepted=False, reason=f"{why}; {_SIGN}", digests=digests)
    return _by_link(link, digests=digests)


_SIGN = "sign it with `verge trust sign` and list the key under deployments.trusted_keys"


def _by_link(link: Link, *, digests: bool) -> TrustDecision:
    if link.kind is LinkKind.IOT_CORE:
        return TrustDecision(accepted=True, reason="it came from IoT Core", digests=digests)
    if link.on_this_machine:
        return TrustDecision(accepted=True, reason="it came from this machine", digests=digests)
    if link.tls and link.client_authenticated:
        return TrustDecision(accepted=True, reason="it came over TLS with client authentication", digests=digests)
    lacking = "TLS that proves who the broker is" if not link.tls else "a client certificate or password"
    why = f"it is not signed by a trusted key, and it came over a link without {lacking}"
    return TrustDecision(accepted=False, reason=f"{why}; {_SIGN}, or connect with {lacking}", digests=digests)


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What decides on the documents of one link: what the link has proved, what the owner takes, and who may sign."""

    link: Link
    accept: Accept = "trusted-links"
    keys: Mapping[str, PublicKey] = field(default_factory=dict)

    def admit(self, payload: bytes, *, thing: str, now: float) -> tuple[bytes, bool]:
        """The document in ``payload``, and whether each artifact that it brings in needs a digest.

        Raises ``DeploymentRejectedError`` for one that is not taken.
        """
        opened = open_document(payload, self.keys, thing=thing, now=now)
        verdict = decide(self.link, str(opened.signed_by) if opened.signed_by else None, self.accept)
        if not verdict.accepted:
            raise DeploymentRejectedError(verdict.reason, code="ACCESS_DENIED")
        return opened.document, verdict.digests


# -- signatures --------------------------------------------------------------------------------------------------------


class SignedKind(StrEnum):
    """What is signed."""

    DOCUMENT = "document"
    RECIPE = "recipe"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's signature, base64 of 64 bytes."""

    key: Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
    signature: Annotated[str, msgspec.Meta(min_length=88, max_length=88)]


Signatures: TypeAlias = Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=8)]


class SignedEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed document: base64 of its exact bytes, and who signed them."""

    document: str
    signatures: Signatures


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in ``<recipe>.sig``."""

    signatures: Signatures


@dataclass(frozen=True, slots=True)
class Opened:
    """A document's exact bytes, and the trusted key that signed them, if one did."""

    document: bytes
    signed_by: PublicKey | None = None


def signed_content(kind: SignedKind, content: bytes) -> bytes:
    """What a signature is made over."""
    return f"verge {kind} 1\n".encode() + content


def open_document(payload: bytes, keys: Mapping[str, PublicKey], *, thing: str | None, now: float) -> Opened:
    """The document that was sent: out of its envelope, or as it came when it is in none.

    ``thing`` is this device (None: whoever it is for), ``now`` in seconds since the epoch.

    Raises:
        NotTrustedError: the envelope cannot be read, was changed, is for another thing or has expired.
    """
    if not _is_envelope(payload):
        return Opened(payload)
    envelope = _read(payload, SignedEnvelope)
    document = decoded(envelope.document)
    if document is None or len(document) > MAX_BYTES:
        raise NotTrustedError("the envelope holds no base64 of a document", hint=_AGAIN)
    signed_by = _signer(SignedKind.DOCUMENT, document, envelope.signatures, keys)
    _check_claims(document, thing, now)
    return Opened(document, signed_by)


def recipe_signer(recipe: bytes, sidecar: bytes, keys: Mapping[str, PublicKey]) -> PublicKey | None:
    """The trusted key that signed a recipe, if one did; ``sidecar`` is what stands in ``<recipe>.sig``.

    Raises ``NotTrustedError`` when the recipe was changed after signing.
    """
    return _signer(SignedKind.RECIPE, recipe, _read(sidecar, Sidecar).signatures, keys)


_AGAIN = "sign it again with `verge trust sign`"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not the JSON it was to decode."""


def _is_envelope(payload: bytes) -> bool:
    """Whether it is an object that has signatures; what is no JSON is for the document's reader to refuse."""
    if len(payload) > _MAX_ENVELOPE_BYTES:
        return False
    try:
        return "signatures" in msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except _UNREADABLE:
        return False


Shape = TypeVar("Shape")


def _read(data: bytes, shape: type[Shape]) -> Shape:
    if len(data) > _MAX_ENVELOPE_BYTES:
        raise NotTrustedError("the signatures are larger than any that are made", hint=_AGAIN)
    try:
        return msgspec.json.decode(data, type=shape)
    except _UNREADABLE as error:
        raise NotTrustedError(f"the signatures cannot be read: {error}", hint=_AGAIN) from error


def _signer(
    kind: SignedKind, content: bytes, signatures: Sequence[Signature], keys: Mapping[str, PublicKey]
) -> PublicKey | None:
    """The first trusted key among the signatures; every signature of a trusted key has to fit."""
    signers = [(key, signature) for signature in signatures if (key := keys.get(signature.key)) is not None]
    for key, signature in signers:
        if not key.verifies(decoded(signature.signature) or b"", signed_content(kind, content)):
            hint = f"it was changed after signing, or signed as something else; {_AGAIN}"
            raise NotTrustedError(f"the signature of {key} does not fit the {kind}", hint=hint)
    return signers[0][0] if signers else None


class _Claims(msgspec.Struct, frozen=True):
    """What a document says of whom and when it is for; the rest of it is not read here."""

    thing: str | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    arn: str | None = msgspec.field(default=None, name="configurationArn")


_FOR_A_THING = re.compile(r"arn:[^:]*:greengrass:[^:]*:[^:]*:configuration:thing/([^:/]+)(?::[^:]*)?")


def _check_claims(document: bytes, thing: str | None, now: float) -> None:
    try:
        claims = msgspec.json.decode(document, type=_Claims)
    except _UNREADABLE as error:
        raise NotTrustedError(f"the envelope holds no deployment document: {error}", hint=_AGAIN) from error
    target = _FOR_A_THING.fullmatch(claims.arn or "")
    for meant in (claims.thing, target and target[1]):
        if meant and thing is not None and meant != thing:
            raise NotTrustedError(f"the document is for the thing {meant}, and this is {thing}")
    if claims.expires is not None and claims.expires.timestamp() <= now:
        here = f"it is {datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ} here"
        raise NotTrustedError(f"the document expired at {claims.expires.isoformat()}, and {here}", hint=_AGAIN)
