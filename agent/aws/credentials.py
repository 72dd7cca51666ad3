"""Credentials of an AWS role, and the one seam to whoever provides them.

Where there is no provider, the AWS SDK's own chain holds: variables, shared files, the machine's role.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

__all__ = ["Credentials", "CredentialsProvider"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials; their secrets are in no ``repr``."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expires: datetime
    """With its zone."""


class CredentialsProvider(Protocol):
    """Whoever has credentials."""

    def get(self) -> Credentials:
        """Credentials that hold now; blocks, may be called by any thread.

        Raises:
            CredentialsError: there are none for this device.
            CredentialsUnreachableError: there are none now.
        """
