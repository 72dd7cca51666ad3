"""Private keys: made, kept for their owner alone, and signed with.

A private key is a PKCS #8 file in PEM, as every tool that knows Ed25519 reads it, with or without a passphrase;
the public key lies beside it in ``FILE.pub``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.errors import ConfigError
from agent.greengrass.recipes import document as texts
from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.trust.freshness import STILL_VALID_TYPE
from agent.greengrass.trust.keylist import KEYS_TYPE
from agent.greengrass.trust.keys import PREFIX, PublicKey
from agent.greengrass.trust.signatures import (
    MAX_BYTES,
    Sidecar,
    Signature,
    SignedEnvelope,
    SignedKind,
    signed_content,
    unsealed,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["PrivateKey", "countersign", "generate", "kind_of", "public_key", "seal", "seal_beside", "with_claims"]


class PrivateKey:
    """An Ed25519 key that signs; ``public`` is its other half."""

    def __init__(self, key: Ed25519PrivateKey, comment: str = "") -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw(), comment)

    @classmethod
    def read(cls, path: Path, passphrase: bytes | None = None) -> PrivateKey:
        """Read a key's file; raises ``ConfigError`` for one that is none or that others can read."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        if path.exists() and path.stat().st_mode & 0o077:
            raise ConfigError(f"the key {path} can be read by others", code="key-exposed", hint=f"chmod 600 {path}")
        try:
            key = load_pem_private_key(content(path), passphrase or None)
        except (ValueError, TypeError) as error:
            hint = "wrong passphrase?" if passphrase else "is it a PEM file, and does it want --passphrase-file?"
            raise ConfigError(f"{path} cannot be read as a private key", code="key-unreadable", hint=hint) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{path} is no Ed25519 key", code="key-unreadable", hint="make one: verge trust keygen")
        return cls(key, _comment(path, cls(key).public))

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """The key's file."""
        from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415

        locked = pem.BestAvailableEncryption(passphrase) if passphrase else pem.NoEncryption()
        return self._key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked)

    def sign(self, kind: SignedKind, content: bytes) -> Signature:
        """The key's signature under exactly these bytes."""
        signature = self._key.sign(signed_content(kind, content))
        return Signature(self.public.id, base64.b64encode(signature).decode())


def _comment(path: Path, key: PublicKey) -> str:
    """The comment of a key, from the public key beside it; empty where that is missing or another's."""
    with contextlib.suppress(ConfigError):
        beside = PublicKey.parse(content(path.with_name(f"{path.name}.pub")).decode(errors="replace").strip())
        return beside.comment if beside.raw == key.raw else ""
    return ""


def generate(out: Path, comment: str, passphrase: bytes | None) -> PublicKey:
    """Make a key: ``out`` for its owner alone, ``out.pub`` for everybody.  Overwrites nothing."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    public = out.with_name(f"{out.name}.pub")
    PublicKey.parse(PublicKey(bytes(32), comment).line)  # a comment that could not be read back is refused here
    key = PrivateKey(Ed25519PrivateKey.generate(), comment)
    for path, data, mode in ((out, key.pem(passphrase), 0o600), (public, f"{key.public.line}\n".encode(), 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}", code="key-not-written") from error
    return key.public


def public_key(path: Path, passphrase: bytes | None) -> PublicKey:
    """The public key in a private key's or a public key's file."""
    text = content(path)
    if text.lstrip().startswith(PREFIX.encode()):
        return PublicKey.parse(text.decode(errors="replace").strip())
    return PrivateKey.read(path, passphrase).public


def kind_of(text: bytes, name: str) -> SignedKind:
    """What a file is that is to be signed, or that an envelope holds.  Raises ``ConfigError`` for what can be none."""
    try:
        value = texts.load(text, name).value
        keys = {key.lower() for key in value} if isinstance(value, Mapping) else set()
        if "recipeformatversion" in keys:
            return SignedKind.RECIPE
        content = msgspec.json.decode(text, type=dict[str, Any])
    except (RecipeError, msgspec.DecodeError) as error:
        hint = "a document is a JSON object, a recipe JSON or YAML, a key list what `verge trust new` writes"
        raise ConfigError(f"{name} can be neither document nor recipe", code="not-signable", hint=hint) from error
    kind = content.get("type")
    return _KINDS.get(kind, SignedKind.DOCUMENT) if isinstance(kind, str) else SignedKind.DOCUMENT


_KINDS = {KEYS_TYPE: SignedKind.KEYS, STILL_VALID_TYPE: SignedKind.STILL_VALID}


def with_claims(document: bytes, thing: str | None, expires: datetime | None, now: datetime) -> bytes:
    """The document with its thing and its expiry, and with the present time where it has none of its own."""
    claims = json.loads(document)
    if thing:
        claims["thing"] = thing
    if expires:
        claims["expires"] = expires.isoformat(timespec="seconds")
    if not claims.get("creationTimestamp") and not claims.get("requestTimestamp"):
        claims["creationTimestamp"] = int(now.timestamp() * 1e3)
    return json.dumps(claims).encode()


def seal(content: bytes, *keys: PrivateKey, kind: SignedKind = SignedKind.DOCUMENT) -> bytes:
    """The envelope of a document, a key list or a timestamp, signed by all of these keys."""
    signatures = tuple(key.sign(kind, content) for key in keys)
    return msgspec.json.encode(SignedEnvelope(base64.b64encode(content).decode(), signatures))


def countersign(envelope: bytes, *keys: PrivateKey, kind: SignedKind) -> bytes:
    """The same envelope with the signatures of these keys among its own, in the place of their earlier ones."""
    signed = unsealed(envelope)
    new = {key.public.id: key.sign(kind, signed.content) for key in keys}
    signatures = {signature.key: signature for signature in signed.signatures} | new
    return msgspec.json.encode(SignedEnvelope(base64.b64encode(signed.content).decode(), tuple(signatures.values())))


def seal_beside(recipe: bytes, *keys: PrivateKey) -> bytes:
    """The content of ``<recipe>.sig``."""
    return msgspec.json.encode(Sidecar(tuple(key.sign(SignedKind.RECIPE, recipe) for key in keys)))


def content(path: Path) -> bytes:
    """A file that is to be signed or checked, or a key's; raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            text = file.read(2 * MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", code="file-unreadable") from error
    return text
