"""What the deployment shadow is about, what its machine hears and what it wants done: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent.aws.jobs.events import Connected, Disconnected, Tick

__all__ = [
    "CancelDeployment",
    "Changed",
    "Deployment",
    "Effect",
    "Event",
    "Get",
    "Got",
    "Missing",
    "Put",
    "Rejected",
    "Report",
    "StartDeployment",
    "Taken",
    "Wanted",
]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A single-thing deployment: its configuration's ARN and its document as JSON text."""

    arn: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """How a deployment stands; ``status`` as in Jobs, ``detailed`` one of Greengrass's outcomes."""

    arn: str
    status: str
    detailed: str = ""
    failure_cause: str = ""
    error_stack: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()


# -- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Got:
    """The whole shadow."""

    version: int
    desired: Mapping[str, Any]
    reported: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Missing:
    """The shadow could not be got; code 404: there is none."""

    code: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Somebody changed the shadow."""

    version: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Our report was taken."""

    token: str
    version: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Our report was not taken."""

    token: str
    code: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """The owner wants this to be reported."""

    report: Report


Event: TypeAlias = Connected | Disconnected | Got | Missing | Changed | Taken | Rejected | Wanted | Tick


# -- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Get:
    """Ask for the whole shadow."""


@dataclass(frozen=True, slots=True)
class Put:
    """Report, if the shadow still has this version."""

    token: str
    report: Report
    version: int


@dataclass(frozen=True, slots=True)
class StartDeployment:
    """Hand the deployment to its owner, who reports on it."""

    deployment: Deployment


@dataclass(frozen=True, slots=True)
class CancelDeployment:
    """The deployment is not wanted any more: stop it if that is still possible."""

    arn: str


Effect: TypeAlias = Get | Put | StartDeployment | CancelDeployment
