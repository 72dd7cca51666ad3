"""What a deployment asks for: the values that a document is read into, and what all groups require together.

A deployment names what *its* group requires from now on; what the other groups require stays.  A component that
several groups require has to satisfy them all.  Configuration comes from the deployment alone and is no matter of
groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, structs

from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = [
    "LOCAL_GROUP",
    "LOCAL_NOTIFY",
    "Canary",
    "ComponentRequest",
    "Deployment",
    "FailurePolicy",
    "Groups",
    "NotifyPolicy",
    "Origin",
    "Requirements",
    "RunWith",
    "UpdateAction",
    "group_label",
    "merge",
]

CANARY_TIMEOUT_S: Final = 600.0
LOCAL_GROUP: Final = "LOCAL_DEPLOYMENT"
"""The group of deployments that name none."""

Requirements = Mapping[str, Mapping[str, Requirement]]
"""Component → group → the versions that it accepts: the roots of a resolution."""


class Origin(StrEnum):
    """Where a deployment came from."""

    JOB = "IOT_JOBS"
    SHADOW = "SHADOW"
    TOPIC = "TOPIC"
    LOCAL = "LOCAL"


class FailurePolicy(StrEnum):
    """What is done when the new set does not become healthy."""

    ROLLBACK = "ROLLBACK"
    DO_NOTHING = "DO_NOTHING"


class UpdateAction(StrEnum):
    """Whether components are asked before they are changed."""

    NOTIFY_COMPONENTS = "NOTIFY_COMPONENTS"
    SKIP_NOTIFY_COMPONENTS = "SKIP_NOTIFY_COMPONENTS"


@dataclass(frozen=True, slots=True)
class NotifyPolicy:
    """How long components that subscribed over IPC may take to agree to a change, and to judge a configuration."""

    action: UpdateAction = UpdateAction.NOTIFY_COMPONENTS
    update_timeout_s: float = 60
    validation_timeout_s: float = 60


LOCAL_NOTIFY: Final = NotifyPolicy(UpdateAction.SKIP_NOTIFY_COMPONENTS, 0, 20)
"""What Greengrass does in local deployments."""


class Canary(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a new model is tried before it is trusted: for so many ``frames``, or for so many ``seconds``."""

    frames: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    seconds: Annotated[float, Meta(gt=0, le=7 * 86400)] | None = None
    agreement: Annotated[float, Meta(ge=0, le=1)] = 0.9
    """The share of frames on which both models must agree."""
    latency_ratio: Annotated[float, Meta(gt=0)] = 2.0
    """How many times the old model's median latency the new one's may be."""
    timeout_s: Annotated[float, Meta(gt=0, le=7 * 86400)] | None = None
    """How long frames are waited for; what has seen too few by then fails, and the old model stays.

    Ten minutes where nothing is said, or twice the ``seconds``, or four times what both models need for the ``frames``,
    where that is longer.
    """

    @property
    def patience_s(self) -> float:
        """How long the trial may take."""
        return self.timeout_s if self.timeout_s is not None else max(CANARY_TIMEOUT_S, 2 * (self.seconds or 0))

    def paced(self, answers_s: float) -> Canary:
        """With a time limit for models of which both together need ``answers_s`` seconds for a frame."""
        needed_s = 4 * (self.frames or 0) * answers_s
        return structs.replace(self, timeout_s=self.timeout_s or max(self.patience_s, needed_s))


@dataclass(frozen=True, slots=True)
class RunWith:
    """Who a component runs as and what it may use; ``given`` are the keys that the document had.

    A key that was given as null takes the earlier override away.  One that was not given leaves it, or takes it away
    too where this is the ``whole`` of it.
    """

    posix_user: str | None = None
    """``user:group`` or ``user``."""
    windows_user: str | None = None
    memory_kb: int | None = None
    cpus: float | None = None
    given: frozenset[str] = frozenset()
    whole: bool = False

    def or_else(self, usual: RunWith) -> RunWith:
        """What holds where ``usual`` is the default of each value."""
        return RunWith(
            posix_user=self.posix_user or usual.posix_user,
            windows_user=self.windows_user or usual.windows_user,
            memory_kb=usual.memory_kb if self.memory_kb is None else self.memory_kb,
            cpus=usual.cpus if self.cpus is None else self.cpus,
        )

    def over(self, old: RunWith | None) -> RunWith:
        """What holds once this is laid over ``old``; the ``given`` of the result is empty."""
        before = RunWith() if self.whole or old is None else old
        limits = self if "systemResourceLimits" in self.given else before
        return RunWith(
            posix_user=(self if "posixUser" in self.given else before).posix_user,
            windows_user=(self if "windowsUser" in self.given else before).windows_user,
            memory_kb=limits.memory_kb,
            cpus=limits.cpus,
        )


@dataclass(frozen=True, slots=True)
class ComponentRequest:
    """What a deployment asks of one component; ``merge`` None and empty ``reset`` leave its configuration alone.

    Without a requirement no version of it is asked for: it is configured in the version that is there.
    """

    requirement: Requirement | None
    merge: dict[str, Any] | None = None
    reset: tuple[str, ...] = ()
    run_with: RunWith | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was asked for.

    ``group`` is on whose behalf (``thinggroup/lab``, ``thing/edge-7``, ``LOCAL_DEPLOYMENT``).  With ``additive`` the
    components join the group's, without it they replace them.  ``timestamp_ms`` is the document's own time, ``own_ms``,
    or when it came.
    """

    id: str
    source: Origin
    group: str
    timestamp_ms: int
    revision_arn: str | None = None
    components: Mapping[str, ComponentRequest] = field(default_factory=dict)
    additive: bool = False
    remove: tuple[str, ...] = ()
    failure_policy: FailurePolicy = FailurePolicy.ROLLBACK
    notify: NotifyPolicy = NotifyPolicy()
    capabilities: tuple[str, ...] = ()
    canary: Canary | None = None
    recipes: tuple[Recipe, ...] = ()
    job_id: str | None = None
    own_ms: int | None = None
    rollback: bool = False
    """Go back to the set before the active one; nothing else is asked for then."""


def group_label(group: str) -> str:
    """A group as it stands in sentences."""
    return "the local group" if group == LOCAL_GROUP else f"group {group}"


@dataclass(frozen=True, slots=True)
class Groups:
    """Group → component → the versions that it accepts; a group that requires nothing is not there."""

    roots: Mapping[str, Mapping[str, Requirement]] = field(default_factory=dict)

    @property
    def requirements(self) -> Requirements:
        """The same by component."""
        by_component: dict[str, dict[str, Requirement]] = {}
        for group, components in sorted(self.roots.items()):
            for name, requirement in components.items():
                by_component.setdefault(name, {})[group] = requirement
        return by_component

    def to_plain(self) -> dict[str, dict[str, str]]:
        """As data for a store."""
        return {
            group: {name: str(requirement) for name, requirement in components.items()}
            for group, components in self.roots.items()
        }

    @classmethod
    def of(cls, plain: Mapping[str, Mapping[str, str]]) -> Groups:
        """What ``to_plain`` gave.  Raises ``VersionError`` for a requirement that cannot be read."""
        return cls(
            {
                group: {name: Requirement.parse(text) for name, text in components.items()}
                for group, components in plain.items()
            }
        )


def merge(groups: Groups, deployment: Deployment, running: Mapping[str, Version]) -> tuple[Groups, Requirements]:
    """The groups once ``deployment`` is done, and what a resolution has to satisfy.

    An additive deployment keeps what its group requires already, at the version that is ``running``: it changes what
    it names and nothing else.
    """
    required = {name: request.requirement for name, request in deployment.components.items() if request.requirement}
    if deployment.additive:
        kept = {
            name: Requirement.parse(str(running[name])) if name in running else requirement
            for name, requirement in groups.roots.get(deployment.group, {}).items()
            if name not in deployment.remove
        }
        required = kept | required
    others = {group: roots for group, roots in groups.roots.items() if group != deployment.group}
    merged = Groups(others | ({deployment.group: required} if required else {}))
    return merged, merged.requirements
