"""What a deployment asks for: the values that a document is read into, and that the rest works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent.greengrass.deployments.canary import Canary
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement

__all__ = ["LOCAL_GROUP", "Deployment", "FailurePolicy", "RunWith", "Source", "Wanted", "group_label"]

LOCAL_GROUP: Final = "LOCAL_DEPLOYMENT"
"""The group of deployments that name none."""


class Source(StrEnum):
    """Where a deployment came from."""

    JOB = "IOT_JOBS"
    SHADOW = "SHADOW"
    TOPIC = "TOPIC"
    LOCAL = "LOCAL"


class FailurePolicy(StrEnum):
    """What is done when the new set does not become healthy."""

    ROLLBACK = "ROLLBACK"
    DO_NOTHING = "DO_NOTHING"


@dataclass(frozen=True, slots=True)
class RunWith:
    """Who a component runs as and what it may use; ``said`` are the keys that the document had.

    A key that was said as null takes the earlier override away; one that was not said leaves it.
    """

    posix_user: str | None = None
    """``user:group`` or ``user``."""
    windows_user: str | None = None
    memory_kb: int | None = None
    cpus: float | None = None
    said: frozenset[str] = frozenset()

    def over(self, old: RunWith | None) -> RunWith:
        """What holds after this was said; its own ``said`` is empty."""
        before = old or RunWith()
        limits = self if "systemResourceLimits" in self.said else before
        return RunWith(
            posix_user=(self if "posixUser" in self.said else before).posix_user,
            windows_user=(self if "windowsUser" in self.said else before).windows_user,
            memory_kb=limits.memory_kb,
            cpus=limits.cpus,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a deployment says of one component; ``merge`` None and empty ``reset`` leave its configuration alone.

    Without a requirement it is not wanted in any version, but configured in the one that is there.
    """

    requirement: Requirement | None
    merge: dict[str, Any] | None = None
    reset: tuple[str, ...] = ()
    run_with: RunWith | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was asked for.

    ``group`` is whose wish it is (``thinggroup/lab``, ``thing/edge-7``, ``LOCAL_DEPLOYMENT``).  With ``additive`` the
    components join the group's, without it they replace them.  ``timestamp_ms`` is the document's own time.
    """

    id: str
    source: Source
    group: str
    timestamp_ms: int
    revision_arn: str | None = None
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    additive: bool = False
    remove: tuple[str, ...] = ()
    failure_policy: FailurePolicy = FailurePolicy.ROLLBACK
    capabilities: tuple[str, ...] = ()
    canary: Canary | None = None
    recipes: tuple[Recipe, ...] = ()
    job_id: str | None = None
    rollback: bool = False
    """Go back to the set before the active one; nothing else is asked for then."""


def group_label(group: str) -> str:
    """A group as it stands in sentences."""
    return "the local group" if group == LOCAL_GROUP else f"group {group}"
