"""``[secrets]``: where components' secrets come from, besides AWS Secrets Manager."""

from __future__ import annotations

from msgspec import Struct

from agent.config.bounds import OptionalPath

__all__ = ["SecretOptions"]


class SecretOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[secrets]``."""

    folder: OptionalPath = ""
    """A folder of files, each a secret by its name: of the agent's user, and readable by nobody else.  Empty: none."""
