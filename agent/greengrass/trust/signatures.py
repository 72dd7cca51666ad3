"""Signed documents and recipes: the envelope, the file beside a recipe, what is signed, and what a document claims.

A signed document travels in an envelope that holds its exact bytes, so that nothing has to agree on a canonical JSON::

    {"document": "<base64>", "signatures": [{"key": "<id>", "signature": "<base64 of 64 bytes>"}]}

A recipe's signatures lie beside it in ``<recipe>.sig``: the same without ``document``.  What is signed begins with
a line that says what it is, so that a recipe's signature is worth nothing under a document.  A signature by an
unknown key counts as none; one by a trusted key that does not fit means that somebody changed the content.

A document may say inside the signed bytes for whom it is (``thing``, or a ``configurationArn`` of a thing) and until
when (``expires``); for another thing, or later, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from agent.greengrass.errors import DeploymentRejectedError
from agent.greengrass.trust.keys import PublicKey, decoded
from agent.text import trimmed

__all__ = [
    "MAX_BYTES",
    "NotTrustedError",
    "Opened",
    "Sidecar",
    "Signature",
    "SignedContent",
    "SignedEnvelope",
    "SignedKind",
    "is_envelope",
    "open_document",
    "recipe_signers",
    "signed_content",
    "signers",
    "unsealed",
]

MAX_BYTES = 1024 * 1024
"""The most a signed document or recipe may have."""

_MAX_ENVELOPE_BYTES = MAX_BYTES * 4 // 3 + 4096


class NotTrustedError(DeploymentRejectedError):
    """A document or recipe was changed after signing, is for another thing, or has expired."""

    default_code = "ACCESS_DENIED"


class SignedKind(StrEnum):
    """What is signed."""

    DOCUMENT = "document"
    RECIPE = "recipe"
    KEYS = "keys"
    STILL_VALID = "still-valid"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's signature, base64 of 64 bytes."""

    key: Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
    signature: Annotated[str, msgspec.Meta(min_length=88, max_length=88)]


Signatures: TypeAlias = Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=16)]


class SignedEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed document: base64 of its exact bytes, and who signed them."""

    document: str
    signatures: Signatures


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in ``<recipe>.sig``."""

    signatures: Signatures


@dataclass(frozen=True, slots=True)
class SignedContent:
    """Exact bytes, and the signatures that came with them, none of which was checked."""

    content: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A document's exact bytes, and the trusted keys that signed them, if some did.

    ``strangers`` are the ids of keys that signed it and are not trusted; ``signed_at`` is the time in seconds since
    the epoch that a signed document says it is of.
    """

    document: bytes
    signers: tuple[PublicKey, ...] = ()
    strangers: tuple[str, ...] = ()
    signed_at: float | None = None

    @property
    def signed_by(self) -> PublicKey | None:
        """The first of the trusted keys that signed it."""
        return self.signers[0] if self.signers else None


def signed_content(kind: SignedKind, content: bytes) -> bytes:
    """What a signature is made over."""
    return f"verge {kind} 1\n".encode() + content


def open_document(payload: bytes, keys: Mapping[str, PublicKey], *, thing: str | None, now: float) -> Opened:
    """The document that was sent: out of its envelope, or as it came when it is in none.

    ``thing`` is this device (None: whoever it is for), ``now`` in seconds since the epoch.

    Raises:
        NotTrustedError: the envelope cannot be read, was changed, is for another thing or has expired.
    """
    if not is_envelope(payload):
        return Opened(payload)
    signed = unsealed(payload)
    signed_by = signers(SignedKind.DOCUMENT, signed.content, signed.signatures, keys)
    signed_at = _check_claims(signed.content, thing, now)
    strangers = tuple(signature.key for signature in signed.signatures if signature.key not in keys)
    return Opened(signed.content, signed_by, strangers, signed_at if signed_by else None)


def unsealed(payload: bytes) -> SignedContent:
    """What is in an envelope, unchecked.  Raises ``NotTrustedError`` for what is none."""
    envelope = _read(payload, SignedEnvelope)
    content = decoded(envelope.document)
    if content is None or len(content) > MAX_BYTES:
        raise NotTrustedError("the envelope holds no base64 of a document", hint=_AGAIN)
    return SignedContent(content, envelope.signatures)


def recipe_signers(recipe: bytes, sidecar: bytes, keys: Mapping[str, PublicKey]) -> tuple[PublicKey, ...]:
    """The trusted keys that signed a recipe; ``sidecar`` is what stands in ``<recipe>.sig``.

    Raises ``NotTrustedError`` when the recipe was changed after signing.
    """
    return signers(SignedKind.RECIPE, recipe, _read(sidecar, Sidecar).signatures, keys)


def signers(
    kind: SignedKind, content: bytes, signatures: Sequence[Signature], keys: Mapping[str, PublicKey]
) -> tuple[PublicKey, ...]:
    """The trusted keys among the signatures, each once.

    Raises ``NotTrustedError`` when the signature of a trusted key does not fit.
    """
    signed_by: dict[str, PublicKey] = {}
    for signature in dict.fromkeys(signatures):  # each costs time to check
        key = keys.get(signature.key)
        if key is None:
            continue
        if not key.verifies(decoded(signature.signature) or b"", signed_content(kind, content)):
            hint = f"it was changed after signing, or signed as something else; {_AGAIN}"
            raise NotTrustedError(f"the signature of {key} does not fit the {_WORDS[kind]}", hint=hint)
        signed_by[key.id] = key
    return tuple(signed_by.values())


_WORDS = {
    SignedKind.DOCUMENT: "document",
    SignedKind.RECIPE: "recipe",
    SignedKind.KEYS: "key list",
    SignedKind.STILL_VALID: "timestamp",
}


_AGAIN = "sign it again with `verge trust sign`"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not the JSON it was to decode."""


def is_envelope(payload: bytes) -> bool:
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


class _Claims(msgspec.Struct, frozen=True):
    """What a document says of whom and when it is for; the rest of it is not read here."""

    thing: str | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    arn: str | None = msgspec.field(default=None, name="configurationArn")
    created: Any = msgspec.field(default=None, name="creationTimestamp")
    requested: Any = msgspec.field(default=None, name="requestTimestamp")

    @property
    def at(self) -> float | None:
        """The time that the document says it is of, in seconds; None where it says none."""
        moment = self.created or self.requested
        if isinstance(moment, str):
            with suppress(ValueError):
                return datetime.fromisoformat(moment).timestamp()
        return moment / 1e3 if isinstance(moment, int | float) and not isinstance(moment, bool) else None


_FOR_A_THING = re.compile(r"arn:[^:]*:greengrass:[^:]*:[^:]*:configuration:thing/([^:/]+)(?::[^:]*)?")


def _check_claims(document: bytes, thing: str | None, now: float) -> float | None:
    """Refuse what is for another thing or has expired; the result is the document's own time."""
    try:
        claims = msgspec.json.decode(trimmed(document), type=_Claims)
    except _UNREADABLE as error:
        raise NotTrustedError(f"the envelope holds no deployment document: {error}", hint=_AGAIN) from error
    target = _FOR_A_THING.fullmatch(claims.arn or "")
    for meant in (claims.thing, target and target[1]):
        if meant and thing is not None and meant != thing:
            raise NotTrustedError(f"the document is for the thing {meant}, and this is {thing}")
    if claims.expires is not None and claims.expires.timestamp() <= now:
        here = f"it is {datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ} here"
        raise NotTrustedError(f"the document expired at {claims.expires.isoformat()}, and {here}", hint=_AGAIN)
    return claims.at
