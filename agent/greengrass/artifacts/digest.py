"""What identifies an artifact's bytes: their SHA-256.

Greengrass writes it as base64 of the raw hash beside an ``Algorithm``; everything else, and we, write
``sha256:<hex>``.  Other algorithms are refused: the cloud writes only this one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Never, Self

from agent.greengrass.artifacts.errors import ArtifactError

__all__ = ["Digest"]

_PREFIX = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")
_ALGORITHMS = {"sha-256", "sha256"}


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256; ``hex`` is its 64 lower-case digits."""

    hex: str

    def __str__(self) -> str:
        return f"{_PREFIX}{self.hex}"

    @classmethod
    def parse(cls, text: str, algorithm: str | None = None) -> Self:
        """Read ``sha256:<hex>``, or base64 of the raw hash with its ``algorithm``.

        Raises:
            ArtifactError: RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM, HASHING_ALGORITHM_UNAVAILABLE or RECIPE_PARSE_ERROR.
        """
        if text.lower().startswith(_PREFIX):
            digits = text[len(_PREFIX) :].lower()
            return cls(digits) if _HEX.fullmatch(digits) else _refuse(text)
        if not algorithm:
            raise ArtifactError(
                f"the digest {text!r} comes without its algorithm",
                hint='add Algorithm: "SHA-256", or write the digest as sha256:<hex>',
                code="RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",
            )
        if algorithm.lower() not in _ALGORITHMS:
            raise ArtifactError(
                f"digests are compared by SHA-256, not {algorithm!r}",
                hint="publish the artifact with a SHA-256 digest",
                code="HASHING_ALGORITHM_UNAVAILABLE",
            )
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            _refuse(text)
        return cls(raw.hex()) if len(raw) == hashlib.sha256().digest_size else _refuse(text)

    @classmethod
    def of(cls, path: Path) -> Self:
        """The digest of a file's bytes; blocks while it reads them.  Raises ``OSError``."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest())


def _refuse(text: str) -> Never:
    raise ArtifactError(
        f"{text!r} is no SHA-256 digest",
        hint="sha256: and 64 hexadecimal digits, or base64 of the 32 raw bytes",
        code="RECIPE_PARSE_ERROR",
    )
