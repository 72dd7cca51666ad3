"""What a fleet status message contains: the values between deciding that one is due and encoding it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.greengrass.components.states import ComponentStatus, State

__all__ = ["SICK", "ComponentHealth", "DeploymentStatus", "MessageType", "Report", "Trigger", "health_of"]

SICK: Final = frozenset({State.ERRORED, State.BROKEN})
"""The states that are reported at once, with their problem."""


class MessageType(StrEnum):
    """Whether a message has every component."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"


class Trigger(StrEnum):
    """Why a message is sent."""

    LOCAL_DEPLOYMENT = "LOCAL_DEPLOYMENT"
    THING_DEPLOYMENT = "THING_DEPLOYMENT"
    THING_GROUP_DEPLOYMENT = "THING_GROUP_DEPLOYMENT"
    COMPONENT_STATUS_CHANGE = "COMPONENT_STATUS_CHANGE"
    RECONNECT = "RECONNECT"
    CADENCE = "CADENCE"
    NUCLEUS_LAUNCH = "NUCLEUS_LAUNCH"
    NETWORK_RECONFIGURE = "NETWORK_RECONFIGURE"


_COMPLETE = frozenset({Trigger.CADENCE, Trigger.NUCLEUS_LAUNCH, Trigger.NETWORK_RECONFIGURE})


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """A component in a message; ``system`` marks one of the agent's own, whose changes alone are not reported."""

    name: str
    version: str
    state: State
    codes: tuple[str, ...] = ()
    reason: str = ""
    root: bool = False
    arns: tuple[str, ...] = ()
    system: bool = False


def health_of(
    status: ComponentStatus, *, root: bool = False, arns: tuple[str, ...] = (), system: bool = False
) -> ComponentHealth:
    """A component's status as messages have it: problems only of what is ERRORED or BROKEN."""
    problem = status.problem if status.state in SICK else None
    codes, reason = ((problem.code.value,), problem.reason) if problem else ((), "")
    return ComponentHealth(status.name, status.version, status.state, codes, reason, root, arns, system)


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """How a deployment ended, in the words of its status details."""

    id: str
    status: str
    arn: str = ""
    detailed_status: str = ""
    failure_cause: str | None = None
    error_stack: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A message to send; ``keep`` it until there is a connection.  ``sequence`` is its number."""

    trigger: Trigger
    sequence: int
    healthy: bool
    components: tuple[ComponentHealth, ...]
    deployment: DeploymentStatus | None = None
    unchanged_roots: tuple[str, ...] = ()
    keep: bool = False

    @property
    def type(self) -> MessageType:
        """Whether it has every component."""
        return MessageType.COMPLETE if self.trigger in _COMPLETE else MessageType.PARTIAL
