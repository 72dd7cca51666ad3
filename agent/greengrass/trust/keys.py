"""Public keys of those who may sign: one line each, named by the digest of the key.

A line is ``verge-ed25519 <base64 of the 32 bytes> <comment>``.  The configuration lists lines, or files of such
lines in which ``#`` begins a comment.

``cryptography`` checks the signatures: the field's library, with wheels for every machine the agent runs on,
32-bit Arm included (PyNaCl, which takes 4 MB where this takes 10, has none there).  It is imported when the first
signature is checked, so that an agent that sees none does not pay for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.errors import ConfigError
from agent.files import under

__all__ = ["PREFIX", "PublicKey", "decoded", "trusted"]

PREFIX = "verge-ed25519"

_KEY_BYTES = 32
_ID_DIGITS = 16
_MAX_COMMENT = 128
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key: its 32 bytes, and who or what it is for people."""

    raw: bytes
    comment: str = ""

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the key's SHA-256: what a signature names it by."""
        return hashlib.sha256(self.raw).hexdigest()[:_ID_DIGITS]

    @property
    def line(self) -> str:
        """The key as files and configurations hold it."""
        return f"{PREFIX} {base64.b64encode(self.raw).decode()} {self.comment}".rstrip()

    def __str__(self) -> str:
        return f"{self.id} ({self.comment})" if self.comment else self.id

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a key's line; raises ``ConfigError``."""
        words = line.split(None, 2)
        comment = words[2].strip() if len(words) > 2 else ""  # noqa: PLR2004 prefix, key, comment
        raw = decoded(words[1]) if words[:1] == [PREFIX] and len(words) > 1 else None
        if raw is None or len(raw) != _KEY_BYTES or len(comment) > _MAX_COMMENT or not comment.isprintable():
            raise ConfigError(
                f"{line[:60]!r} is no public key",
                code="key-unreadable",
                hint=f"a line is: {PREFIX} BASE64 COMMENT; `verge trust keygen` writes one",
            )
        return cls(raw, comment)

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether this key signed exactly this content."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 10 MB, for those who sign only
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except InvalidSignature:
            return False
        return True


def trusted(entries: Iterable[str], folder: Path) -> Mapping[str, PublicKey]:
    """The keys of the configuration by their ids: lines, and files relative to ``folder``.  Raises ``ConfigError``."""
    keys = [PublicKey.parse(line) for entry in entries for line in _lines(entry, folder)]
    return {key.id: key for key in keys}


def decoded(text: str) -> bytes | None:
    """Base64 in its one canonical spelling; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def _lines(entry: str, folder: Path) -> list[str]:
    if entry.split(None, 1)[:1] == [PREFIX]:
        return [entry]
    path = under(folder, entry)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the trusted key {entry[:200]!r} is neither a key's line nor a file that can be read: {error.strerror}",
            code="key-missing",
            hint="name the .pub file that `verge trust keygen` wrote, or put its line in here",
        ) from error
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is too large for a file of keys", code="key-unreadable")
    lines = (line.strip() for line in text.decode(errors="replace").splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ConfigError(f"{path} holds no key", code="key-unreadable")
    return keys
