"""What the configuration says of deployments; without the table ``[deployments]`` there are none."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = ["Accept", "DeploymentOptions"]

Accept: TypeAlias = Literal["trusted-links", "signed", "anything-from-anyone"]
"""What the owner allows; the first is the rule."""


class DeploymentOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where deployments come from, and who may deploy."""

    transport: str = ""
    """Which broker; empty is the first configured one."""
    accept: Accept = "trusted-links"
    """``trusted-links``: from loopback, from TLS with client authentication, or signed; ``signed``: only signed;
    ``anything-from-anyone`` switches the rule off."""
    trusted_keys: tuple[str, ...] = ()
    """Public keys, or files of them, as ``verge trust keygen`` writes them."""
    jobs: bool = True
    """Take AWS IoT Jobs, plain ones and those of Greengrass."""
    shadow: bool = True
    """Take the deployment shadow of a single thing."""
    aws_prefix: str = "$aws"
    """What the AWS topics begin with; ``verge/aws`` for brokers that refuse a leading ``$``."""
    health: bool = True
    """Send fleet status messages as a Greengrass nucleus does."""
    health_cadence_s: Annotated[float, Meta(ge=86_400)] = 86_400.0
    """Between two fleet status messages that tell of everything though nothing happened."""
    run_as: str = ""
    """``user`` or ``user:group`` of component scripts that name none, when the agent is root."""
    settle_s: Annotated[float, Meta(gt=0)] = 600.0
    """How long the scripts of a new set may take to get healthy."""
    cache_bytes: Annotated[int, Meta(ge=1 << 20)] = 10_000_000_000
    """Of artifacts kept for the next time."""
