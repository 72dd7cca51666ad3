"""How a deployment ended, in the words of AWS IoT Jobs, of the shadow and of the agent's own topic.

======================================  =====================================================  =============
detailed status                         when                                                   job
======================================  =====================================================  =============
SUCCESSFUL                              the new set is live                                    SUCCEEDED
FAILED_NO_STATE_CHANGE                  it failed before anything was changed                  FAILED
FAILED_ROLLBACK_COMPLETE                it failed, and the old set is live again               FAILED
FAILED_ROLLBACK_NOT_REQUESTED           it failed, and the document asked to leave it so       FAILED
FAILED_UNABLE_TO_ROLLBACK               it failed, and so did the way back                     FAILED
REJECTED                                it was not taken up                                    REJECTED
CANCELED                                whoever asked for it cancelled it in time              CANCELED
======================================  =====================================================  =============

The error stack is the list of codes from the general to the cause, without repeats; the types name who can mend it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from agent.aws.jobs.messages import MAX_DETAIL_VALUE, Status
from agent.errors import (
    BackendUnavailableError,
    BrokerUnreachableError,
    ConfigError,
    ModelRefusedError,
    VergeError,
    WorkerLostError,
)
from agent.greengrass.deployments.ledger import Entry, Step
from agent.greengrass.deployments.request import Deployment, Origin
from agent.greengrass.errors import NONE, TYPES, DeploymentError, DeploymentRejectedError
from agent.inference.environments.errors import RuntimeUnreachableError, UnsupportedRuntimeError

__all__ = [
    "COMMITTED",
    "UNDER_WAY",
    "DeploymentEnded",
    "DeploymentListener",
    "DetailedStatus",
    "Outcome",
    "error_stack",
    "error_types",
    "failed",
    "given_up",
    "interrupted",
    "job_details",
    "status_details",
    "topic_payload",
]


class DetailedStatus(StrEnum):
    """How a deployment ended, in Greengrass's words."""

    SUCCESSFUL = "SUCCESSFUL"
    FAILED_NO_STATE_CHANGE = "FAILED_NO_STATE_CHANGE"
    FAILED_ROLLBACK_COMPLETE = "FAILED_ROLLBACK_COMPLETE"
    FAILED_ROLLBACK_NOT_REQUESTED = "FAILED_ROLLBACK_NOT_REQUESTED"
    FAILED_UNABLE_TO_ROLLBACK = "FAILED_UNABLE_TO_ROLLBACK"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"

    @property
    def job_status(self) -> Status:
        """How its job ends."""
        return _JOB_STATUS[self]


_JOB_STATUS = {
    DetailedStatus.SUCCESSFUL: Status.SUCCEEDED,
    DetailedStatus.FAILED_NO_STATE_CHANGE: Status.FAILED,
    DetailedStatus.FAILED_ROLLBACK_COMPLETE: Status.FAILED,
    DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED: Status.FAILED,
    DetailedStatus.FAILED_UNABLE_TO_ROLLBACK: Status.FAILED,
    DetailedStatus.REJECTED: Status.REJECTED,
    DetailedStatus.CANCELED: Status.CANCELED,
}

_NOT_BEGUN: Final = frozenset((DetailedStatus.REJECTED, DetailedStatus.CANCELED))
COMMITTED: Final = frozenset((DetailedStatus.SUCCESSFUL, DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED))
"""After these the new set is the active one, and the group's roots are those of the document."""


UNDER_WAY: Final = frozenset(("QUEUED", "IN_PROGRESS"))
"""The statuses, on the topic of a deployment, that are no end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A deployment's end: ``cause`` is a sentence, ``stack`` Greengrass's codes, ``types`` who can mend it.

    ``hint`` says what to do about it.  ``notes`` are what it did not do though it may have been meant.
    """

    status: DetailedStatus
    cause: str = ""
    stack: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    hint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def job_status(self) -> Status:
        """How its job ends."""
        return self.status.job_status

    @property
    def text(self) -> str:
        """The cause with its hint, for readers that know one text only: AWS's status keys."""
        return f"{self.cause} (hint: {self.hint})" if self.hint else self.cause


@dataclass(frozen=True, slots=True)
class DeploymentEnded:
    """A deployment is over; ``deployment`` is None for a document that was not taken, or that a crash ended."""

    id: str
    source: Origin
    outcome: Outcome
    deployment: Deployment | None = None


class DeploymentListener(Protocol):
    """Is called for every deployment, whoever asked for it, on the event loop; must not block."""

    def began(self) -> None:
        """One is under way; called at each of its steps."""

    def ended(self, end: DeploymentEnded) -> None:
        """One is over; called anew after a restart when the requester may not have been informed."""


# -- errors in Greengrass's words --------------------------------------------------------------------------------------

_BROKEN = ("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN")
_FOREIGN: Final[tuple[tuple[type[BaseException], tuple[str, ...], str], ...]] = (
    (ModelRefusedError, _BROKEN, "USER_COMPONENT_ERROR"),
    (WorkerLostError, _BROKEN, "USER_COMPONENT_ERROR"),
    (BackendUnavailableError, _BROKEN, "DEPENDENCY_ERROR"),
    (UnsupportedRuntimeError, _BROKEN, "DEPENDENCY_ERROR"),
    (RuntimeUnreachableError, ("NETWORK_ERROR",), "NETWORK_ERROR"),
    (ConfigError, ("COMPONENT_CONFIGURATION_NOT_VALID",), NONE),
    (BrokerUnreachableError, ("MQTT_CONNECTION_FAILED",), "NETWORK_ERROR"),
    (ConnectionError, ("NETWORK_ERROR",), "NETWORK_ERROR"),
    (OSError, ("IO_ERROR",), NONE),
)
"""Errors whose code is none of Greengrass's: their codes in its words, and their type."""

_FULL = ("DISK_SPACE_CRITICAL",)
_NOTHING_FITS = ("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")
_TOGETHER: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    **dict.fromkeys(_NOTHING_FITS, (_NOTHING_FITS, "REQUEST_ERROR")),
    "COMPONENT_BROKEN": (_BROKEN, "USER_COMPONENT_ERROR"),
}
"""Codes that Greengrass never reports alone (``NoAvailableComponentVersionException``, ``ServiceUpdateException``):
all of them, and their type."""


def failed(status: DetailedStatus, error: BaseException) -> Outcome:
    """The outcome of a deployment that ended with ``error``."""
    first = "DEPLOYMENT_REJECTED" if status in _NOT_BEGUN else "DEPLOYMENT_FAILURE"
    cause, hint = (error.message, error.hint) if isinstance(error, VergeError) else (str(error), None)
    return Outcome(
        status, cause or type(error).__name__, error_stack(error, first=first), error_types(error), hint or ""
    )


def given_up(reason: str, *, canceled: bool) -> Outcome:
    """The outcome of a deployment that its sender cancelled, or that another took the place of."""
    status = DetailedStatus.CANCELED if canceled else DetailedStatus.REJECTED
    return failed(status, DeploymentRejectedError(reason, code="DEPLOYMENT_REJECTED"))


_ATTEMPTS = 3
_NOTHING_CHANGED = frozenset((Step.RECEIVED, Step.RESOLVED, Step.STAGED, Step.ASKING, Step.BOOTSTRAPPING))


def interrupted(entry: Entry) -> Outcome | None:
    """How a deployment ended that was under way when the agent died; None: it begins anew."""
    if entry.step is Step.RESTARTING:
        return None
    if entry.step in _NOTHING_CHANGED:
        if entry.attempts < _ATTEMPTS:
            return None
        status, times = DetailedStatus.FAILED_NO_STATE_CHANGE, f", {entry.attempts} times"
    else:
        status, times = DetailedStatus.FAILED_ROLLBACK_COMPLETE, ""
    error = DeploymentError(
        f"the agent ended while the deployment was {entry.step}{times}", code="DEPLOYMENT_INTERRUPTED"
    )
    return failed(status, error)


def error_stack(error: BaseException, *, first: str = "DEPLOYMENT_FAILURE") -> tuple[str, ...]:
    """``first``, then the codes down the chain of causes, each once."""
    codes = (code for cause in _chain(error) for code in _greengrass(cause)[0])
    return tuple(dict.fromkeys((first, *codes)))


def error_types(error: BaseException) -> tuple[str, ...]:
    """The types of everything down the chain of causes, each once; unknown where nothing in it is known."""
    known = [_greengrass(cause) for cause in _chain(error)]
    types = tuple(dict.fromkeys(kind for _, kind in known if kind != NONE))
    return types if types or any(codes for codes, _ in known) else ("UNKNOWN_ERROR",)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        yield following
        seen.add(id(following))
        implied = None if following.__suppress_context__ else following.__context__
        following = following.__cause__ or implied


def _greengrass(error: BaseException) -> tuple[tuple[str, ...], str]:
    """An error in Greengrass's words: its codes and its type."""
    if isinstance(error, VergeError) and error.code in _TOGETHER:
        codes, usual = _TOGETHER[error.code]
        return codes, "AWS_COMPONENT_ERROR" if getattr(error, "of_aws", False) else usual
    if isinstance(error, VergeError) and error.code in TYPES:
        return (error.code,), TYPES[error.code]
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _FULL, TYPES[_FULL[0]]
    if isinstance(kind := getattr(error, "error_type", None), str):
        return (getattr(error, "code", ""),), kind
    return next(((codes, kind) for cls, codes, kind in _FOREIGN if isinstance(error, cls)), ((), NONE))


# -- what is published -------------------------------------------------------------------------------------------------


def job_details(outcome: Outcome) -> dict[str, str]:
    """The ``statusDetails`` of a job: texts of at most 1024 characters, lists as JSON that stays whole."""
    details = {"detailed-deployment-status": outcome.status.value}
    if outcome.cause:
        details["deployment-failure-cause"] = outcome.text[:MAX_DETAIL_VALUE]
    if outcome.stack:
        details["deployment-error-stack"] = _as_json(outcome.stack)
        details["deployment-error-types"] = _as_json(outcome.types)
    if outcome.notes:
        details["deployment-notes"] = _as_json(outcome.notes)
    return details


def status_details(outcome: Outcome) -> dict[str, Any]:
    """An end under Greengrass's keys, those of the ``statusDetails`` of a deployment shadow."""
    return {
        "detailedStatus": outcome.status.value,
        "failureCause": outcome.text,
        "errorStack": list(outcome.stack),
        "errorTypes": list(outcome.types),
    }


def topic_payload(deployment: str, outcome: Outcome) -> dict[str, Any]:
    """What is retained on the topic of the deployment with the id ``deployment`` once it has ended.

    ``failureCause`` is one text, as Greengrass has it; ``cause`` and ``hint`` are its two halves.  ``notes`` are there
    where there are any.
    """
    halves: dict[str, Any] = {"cause": outcome.cause, "hint": outcome.hint} if outcome.cause else {}
    halves |= {"notes": list(outcome.notes)} if outcome.notes else {}
    return {"id": deployment, "status": outcome.job_status.value, **status_details(outcome), **halves}


def _as_json(items: tuple[str, ...]) -> str:
    """As many of the items as fit into a detail's value, as a JSON list."""
    for count in range(len(items), 0, -1):
        if len(text := msgspec.json.encode(items[:count]).decode()) <= MAX_DETAIL_VALUE:
            return text
    return "[]"
