"""What the configuration says of deployments, without whose table there are none, and of fetching their artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.config.bounds import LONGEST_S, Host, Name, OptionalPath, Seconds, Text
from agent.config.secrets import HttpOptions

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "RESERVE_BYTES",
    "Accept",
    "ArtifactLimits",
    "DeploymentOptions",
    "RetryPolicy",
    "StoreOptions",
]

MAX_ARTIFACT_BYTES: Final = 4 * 1024**3
RESERVE_BYTES: Final = 20_000_000
"""What stays usable, as Greengrass has it."""

Accept: TypeAlias = Literal["trusted-links", "signed", "anyone-on-this-broker", "anything-from-anyone"]
"""What the owner allows; the first is the rule."""


class DeploymentOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[deployments]``: where deployments come from, and who may deploy."""

    transport: Name = ""
    """Which broker; empty is the first configured one."""
    accept: Accept = "trusted-links"
    """``trusted-links``: from a broker on this machine that asks the agent who it is and keeps strangers out, from TLS
    with client authentication, or signed; ``signed``: only signed; ``anyone-on-this-broker``: besides, from whomever a
    broker on this machine, or one that proved by TLS who it is, lets publish; ``anything-from-anyone`` switches the
    rule off, for a link across the network too on which everybody on the way can write."""
    trusted_keys: tuple[Text, ...] = ()
    """Public keys, or files of them, as ``verge trust keygen`` writes them."""
    trust_list: OptionalPath = ""
    """A signed key list, as ``verge trust`` writes it, in the place of ``trusted_keys``: who may deploy what.  A newer
    one that came over the broker goes before it."""
    max_silence_s: Seconds | None = None
    """How old the newest signed word may be before nothing is taken but what was signed within that time."""
    jobs: bool = True
    """Take AWS IoT Jobs, plain ones and those of Greengrass."""
    foreign_jobs: Literal["leave", "reject"] = "leave"
    """Plain jobs that are no deployments: ``leave`` leaves them to other agents of the same thing and begins none of
    them; ``reject`` ends them as REJECTED, where this is the thing's only agent."""
    shadow: bool = True
    """Take the deployment shadow of a single thing."""
    aws_prefix: Annotated[
        str, Meta(max_length=256, pattern=r"^[^\x00-\x1f+#]+\Z", description="the beginning of topics, without + and #")
    ] = "$aws"
    """What the AWS topics begin with; ``verge/aws`` for brokers that refuse a leading ``$``."""
    health: bool = True
    """Send fleet status messages as a Greengrass nucleus does."""
    health_cadence_s: Annotated[float, Meta(ge=86_400, le=LONGEST_S)] = 86_400.0
    """Between two fleet status messages that list everything though nothing happened."""
    run_as: Name = ""
    """``user`` or ``user:group`` of component scripts and models' workers that name none, when the agent is root;
    empty: no scripts, and workers as ``ggc_user`` or ``nobody``."""
    settle_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    """How long scripts may take to get healthy while no step with a time limit of its own runs: steps have theirs."""
    cache_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] = 10_000_000_000
    """Of artifacts kept for the next time."""


class StoreOptions(HttpOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[artifacts]``: how stores reach the network.

    The certificate is for servers that ask who the agent is.
    """

    plain_http_hosts: tuple[Host, ...] = ()
    """Hosts besides this machine that ``http:`` may be spoken with."""
    min_bytes_per_s: Annotated[int, Meta(ge=0, le=1 << 30)] = 1000
    """A download slower than this over ``rate_window_s`` counts as unreachable: it is tried again, and given up when
    that goes on; 0: as slow as it is."""
    rate_window_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0


@dataclass(frozen=True, slots=True)
class ArtifactLimits:
    """What one artifact may cost."""

    max_bytes: int = MAX_ARTIFACT_BYTES
    reserve_bytes: int = RESERVE_BYTES
    """What stays free on the disk."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long what cannot be reached is tried again: delays in [0, min(cap, base · 2ⁿ)], full jitter."""

    base_s: float = 1.0
    cap_s: float = 60.0
    give_up_after_s: float = 3600.0
    """Counted from the last byte that came."""

    def ceiling_s(self, failures: int) -> float:
        """The longest delay after so many failures in a row."""
        return min(self.cap_s, self.base_s * 2.0 ** min(failures, 60))
