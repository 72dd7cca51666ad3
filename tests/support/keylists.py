"""Keys of people with names, and the key lists, timestamps and documents that they sign."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cli.signing import PrivateKey, seal
from agent.greengrass.trust.signatures import SignedContent, SignedKind, unsealed

NOW = 1_764_360_000.0


def key(name: str) -> PrivateKey:
    """The key of somebody; the same name gives the same key."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()), name)


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def key_list(
    version: int, roles: Mapping[str, Mapping[str, Any]], *, root: Iterable[str] = ("anna",), threshold: int = 1,
    timestamp: Iterable[str] = (), issued: float = NOW, expires: float | None = None,
) -> bytes:  # fmt: skip
    """A list; roles name people under ``keys``."""
    people = dict.fromkeys([*root, *timestamp, *(name for role in roles.values() for name in role["keys"])])
    document: dict[str, Any] = {
        "type": "verge-keys", "version": version, "issued": iso(issued),
        "keys": [key(name).public.line for name in people],
        "root": {"keys": _ids(root), "threshold": threshold},
        "roles": {name: {**role, "keys": _ids(role["keys"])} for name, role in roles.items()},
    }  # fmt: skip
    if timestamp:
        document["timestamp"] = {"keys": _ids(timestamp)}
    if expires is not None:
        document["expires"] = iso(expires)
    return json.dumps(document).encode()


def signed_list(content: bytes, *signers: str) -> bytes:
    """The envelope of a list."""
    return seal(content, *map(key, signers), kind=SignedKind.KEYS)


def opened(envelope: bytes) -> SignedContent:
    return unsealed(envelope)


def stamp(at: float, *signers: str, keys: int = 0) -> bytes:
    """The envelope of a timestamp."""
    content = json.dumps({"type": "verge-still-valid", "at": iso(at), "keys": keys}).encode()
    return seal(content, *map(key, signers), kind=SignedKind.STILL_VALID)


def signed_document(document: Mapping[str, Any], *signers: str, at: float | None = None) -> bytes:
    """The envelope of a deployment document, of the time ``at``."""
    timed = {"creationTimestamp": int(at * 1000)} if at is not None else {}
    return seal(json.dumps({**document, **timed}).encode(), *map(key, signers))


def _ids(names: Iterable[str]) -> list[str]:
    return [key(name).public.id for name in names]
