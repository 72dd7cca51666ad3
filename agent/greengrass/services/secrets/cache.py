"""Secrets on the disk: what was read last, in one file that is encrypted and bound to the device's key.

AES-256-GCM under a key that HKDF-SHA256 derives from the device's private key file where there is one, else from a
file of 32 random bytes beside the cache.  ``cryptography`` does it: nobody should write that by hand.

What that protects against: a copy of the cache alone, in a backup, a support archive or a data folder that is carried
away, tells nothing; nor is one of another device taken, or one that somebody changed.  What it does not: whoever can
read as the agent's user, or has the whole disk with the key on it, reads the secrets too.  Against that only a disk
that is encrypted helps.

A cache that cannot be decrypted (the device has another key now, the file is damaged) is dropped, and what it held is
fetched anew.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent.files import make_folder, write_atomically
from agent.greengrass.services.secrets.secret import Kept

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["SecretCache"]

log = logging.getLogger(__name__)

_MAGIC: Final = b"verge-secrets-1\n"
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_decode = msgspec.msgpack.Decoder(Kept).decode


@dataclass(frozen=True, slots=True)
class SecretCache:
    """The cache in a folder of its own; ``key_file`` is the device's private key, where it has one as a file.

    Its methods block, and raise ``OSError``.
    """

    folder: Path
    key_file: Path | None = None

    @property
    def path(self) -> Path:
        """The encrypted file."""
        return self.folder / "cache"

    def load(self) -> Kept:
        """What is kept; nothing where there is no cache that this device can decrypt."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 only where secrets are served

        for left in self.folder.glob(".*"):  # of an agent that was killed as it wrote
            left.unlink(missing_ok=True)
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return Kept()
        nonce, sealed = content[len(_MAGIC) :][:_NONCE_BYTES], content[len(_MAGIC) + _NONCE_BYTES :]
        try:
            return _decode(self._cipher().decrypt(nonce, sealed, content[: len(_MAGIC)]))
        except (InvalidTag, ValueError):  # what msgspec raises, and a nonce that is too short, are ValueErrors
            log.warning("the cache of secrets %s cannot be decrypted and is dropped: they are read anew", self.path)
            self.path.unlink(missing_ok=True)
            return Kept()

    def save(self, kept: Kept) -> None:
        """Replace what is kept, all at once."""
        make_folder(self.folder, ours=True)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, msgspec.msgpack.encode(kept), _MAGIC)
        write_atomically(self.path, _MAGIC + nonce + sealed)

    def identity(self, name: str, value: str | bytes) -> str:
        """The id of a version with this value: another one for another value, and no help in guessing it."""
        content = value.encode() if isinstance(value, str) else value
        digest = hmac.digest(self._derived(b"version"), name.encode() + b"\0" + content, hashlib.sha256)
        return str(uuid.UUID(bytes=digest[:16]))

    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 as above

        return AESGCM(self._derived(b"cache"))

    def _derived(self, purpose: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 as above
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 as above

        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"verge secrets " + purpose).derive(self._material())

    def _material(self) -> bytes:
        if self.key_file is not None:
            return self.key_file.read_bytes()
        path = self.folder / "key"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            make_folder(self.folder, ours=True)
            material = os.urandom(_KEY_BYTES)
            write_atomically(path, material)
            return material
