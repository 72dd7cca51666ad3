"""The deployment shadow's device side: a pure state machine for ``AWSManagedGreengrassV2Deployment``.

A single-thing deployment is not a job but the desired state of a named shadow: ``fleetConfig`` holds the document as
text, its ``configurationArn`` is the deployment's name, ``desiredStatus`` says whether it is wanted or cancelled.

As in the Jobs conversation only answers count: after any notice of a change the machine gets the whole shadow.  An
answer with an older version than one seen before is ignored.  The report is a state and not an event, so the last one
is what matters: it is sent with the version last seen, and after a rejection the shadow is got and the report sent
again if it still differs.  At start-up a deployment that was reported at its end, or is cancelled, is not begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from agent.aws.jobs import retry
from agent.aws.jobs.retry import Connected, Disconnected, ReportAccepted, RequestRejected, RequestState, Tick

__all__ = [
    "CANCELED",
    "CancelDeployment",
    "Effect",
    "Event",
    "GetRejected",
    "GetShadow",
    "ReportRequested",
    "Shadow",
    "ShadowChanged",
    "ShadowDeployment",
    "ShadowReceived",
    "ShadowReport",
    "StartDeployment",
    "UpdateShadow",
    "due",
    "reported_state",
    "step",
]

CANCELED = "CANCELED"
_IN_PROGRESS = "IN_PROGRESS"
_NO_SHADOW = 404


@dataclass(frozen=True, slots=True)
class ShadowDeployment:
    """A single-thing deployment: its configuration's ARN and its document as JSON text."""

    arn: str
    document: bytes


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """The status of a deployment: ``status`` as in Jobs, ``detailed`` one of Greengrass's outcomes."""

    arn: str
    status: str
    detailed: str = ""
    failure_cause: str = ""
    error_stack: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()


# -- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShadowReceived:
    """The whole shadow."""

    version: int
    desired: Mapping[str, Any]
    reported: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GetRejected:
    """The shadow could not be got; code 404: there is none."""

    code: int


@dataclass(frozen=True, slots=True)
class ShadowChanged:
    """Somebody else changed the shadow."""

    version: int


@dataclass(frozen=True, slots=True)
class ReportRequested:
    """The owner of the deployment wants this to be reported."""

    report: ShadowReport


Event: TypeAlias = (
    Connected
    | Disconnected
    | ShadowReceived
    | GetRejected
    | ShadowChanged
    | ReportAccepted
    | RequestRejected
    | ReportRequested
    | Tick
)


# -- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetShadow:
    """Ask for the whole shadow."""


@dataclass(frozen=True, slots=True)
class UpdateShadow:
    """Report, if the shadow still has this version."""

    token: str
    report: ShadowReport
    version: int


@dataclass(frozen=True, slots=True)
class StartDeployment:
    """Hand the deployment to its owner, who reports on it."""

    deployment: ShadowDeployment


@dataclass(frozen=True, slots=True)
class CancelDeployment:
    """The deployment was cancelled: its owner is to stop it if that is still possible."""

    arn: str


Effect: TypeAlias = GetShadow | UpdateShadow | StartDeployment | CancelDeployment


# -- machine --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shadow(RequestState[GetShadow | UpdateShadow]):
    """The machine's state."""

    version: int = 0
    arn: str | None = None
    """The last deployment that was looked at."""
    cancelled: bool = False
    begun: bool = False
    """Whether the shadow was seen since start-up."""
    report: ShadowReport | None = None
    unsent: bool = False
    """Whether ``report`` is not in the shadow yet."""


Transition: TypeAlias = tuple[Shadow, tuple[Effect, ...]]


def step(state: Shadow, event: Event, now: float) -> Transition:
    """The state after ``event``, and what is to be done because of it, in order."""
    state, effects = _after(state, event, now)
    state, requests = _next_request(state, now)
    return state, effects + requests


def due(state: Shadow) -> float | None:
    """When the next ``Tick`` is due; None without a connection."""
    return retry.next_tick(state, to_send=state.unsent)


def reported_state(report: ShadowReport) -> dict[str, Any]:
    """A report as the shadow holds it.

    >>> reported_state(ShadowReport("arn:1", "SUCCEEDED", "SUCCESSFUL"))["statusDetails"]["detailedStatus"]
    'SUCCESSFUL'
    """
    return {
        "fleetConfigurationArnForStatus": report.arn,
        "status": report.status,
        "statusDetails": {
            "detailedStatus": report.detailed,
            "failureCause": report.failure_cause,
            "errorStack": list(report.error_stack),
            "errorTypes": list(report.error_types),
        },
    }


def _after(state: Shadow, event: Event, now: float) -> Transition:
    after: Transition = state, ()
    match event:
        case Connected():
            after = retry.connected(state, now), ()
        case Disconnected():
            after = retry.disconnected(state), ()
        case ShadowReceived(version=version) if version >= state.version:
            after = _received(_got(state, now), event)
        case GetRejected(code):
            after = _get_rejected(state, code, now), ()
        case ShadowChanged(version) if version > state.version:
            after = replace(state, must_refresh=True), ()
        case ReportAccepted() | RequestRejected():
            after = _report_answered(state, event, now), ()
        case ReportRequested(report):
            after = replace(state, report=report, unsent=True), ()
        case Tick():
            state, repeated = retry.ticked(state, now)
            after = state, () if repeated is None else (repeated,)
        case _:  # an older answer
            pass
    return after


def _next_request(state: Shadow, now: float) -> Transition:
    """Open the next request if none is open and it is time."""
    if not retry.ready(state, now):
        return state, ()
    request: GetShadow | UpdateShadow
    if state.must_refresh:
        request = GetShadow()
    elif state.unsent and state.report is not None:
        request = UpdateShadow(state.token, state.report, state.version)
    else:
        return state, ()
    return retry.opened(state, request, now), (request,)


def _getting(state: Shadow) -> bool:
    return state.pending is not None and isinstance(state.pending.request, GetShadow)


def _got(state: Shadow, now: float) -> Shadow:
    """The shadow came; an update that is open stays so, for anybody may have asked for the shadow."""
    return replace(retry.answered(state, now), pending=None if _getting(state) else state.pending)


def _received(state: Shadow, received: ShadowReceived) -> Transition:
    seen = replace(state, version=received.version, begun=True, unsent=_differs(state.report, received.reported))
    deployment, desired_status = _desired(received.desired)
    if deployment is None:
        return seen, ()
    cancelled = desired_status == CANCELED
    if deployment.arn == state.arn:
        if cancelled and not state.cancelled:
            return replace(seen, cancelled=True), (CancelDeployment(deployment.arn),)
        return seen, ()
    seen = replace(seen, arn=deployment.arn, cancelled=cancelled)
    ended_before = not state.begun and _reported_end(received.reported, deployment.arn)
    return seen, () if cancelled or ended_before else (StartDeployment(deployment),)


def _desired(desired: Mapping[str, Any]) -> tuple[ShadowDeployment | None, str]:
    """The desired deployment and its desired status; None where the shadow does not hold a whole one."""
    text, status = desired.get("fleetConfig"), desired.get("desiredStatus")
    if not isinstance(text, str) or not isinstance(status, str):
        return None, ""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None, ""
    arn = document.get("configurationArn") if isinstance(document, dict) else None
    return (ShadowDeployment(arn, text.encode()), status) if isinstance(arn, str) and arn else (None, "")


def _reported_end(reported: Mapping[str, Any], arn: str) -> bool:
    return reported.get("fleetConfigurationArnForStatus") == arn and reported.get("status") != _IN_PROGRESS


def _differs(report: ShadowReport | None, reported: Mapping[str, Any]) -> bool:
    return report is not None and any(reported.get(key) != value for key, value in reported_state(report).items())


def _get_rejected(state: Shadow, code: int, now: float) -> Shadow:
    if code == _NO_SHADOW:
        return replace(_got(state, now), version=0, begun=True, unsent=False)
    return _refreshing(state, now) if _getting(state) else state


def _report_answered(state: Shadow, answer: ReportAccepted | RequestRejected, now: float) -> Shadow:
    """After the answer to our report; an answer to another request is ignored."""
    update = state.pending.request if state.pending is not None else None
    if not isinstance(update, UpdateShadow) or update.token != answer.token:
        return state
    if isinstance(answer, RequestRejected):
        return _refreshing(state, now)
    version = max(answer.version or 0, state.version)
    return replace(retry.answered(state, now), version=version, unsent=state.report != update.report, rejections=0)


def _refreshing(state: Shadow, now: float) -> Shadow:
    """Get the shadow again after a rejection, after a while if this happens often."""
    return replace(retry.rejected(state, now), must_refresh=True)
