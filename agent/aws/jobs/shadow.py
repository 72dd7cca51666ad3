"""The deployment shadow's device side: a pure state machine for ``AWSManagedGreengrassV2Deployment``.

A single-thing deployment is not a job but the desired state of a named shadow: ``fleetConfig`` holds the document as
text, its ``configurationArn`` is the deployment's name, ``desiredStatus`` says whether it is wanted or cancelled.

As in the Jobs conversation only answers count: whatever tells of a change makes the machine get the whole shadow.  An
answer with an older version than one seen before is ignored.  The report is a state and not an event, so the last one
is what matters: it is sent with the version last seen, and after a rejection the shadow is got and the report sent
again if it still differs.  At start-up a deployment that was reported at its end, or is cancelled, is not begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec

from agent.aws.jobs.events import Connected, Disconnected, Tick
from agent.aws.jobs.pace import Pace
from agent.aws.jobs.shadow_events import (
    CancelDeployment,
    Changed,
    Deployment,
    Effect,
    Event,
    Get,
    Got,
    Missing,
    Put,
    Rejected,
    Report,
    StartDeployment,
    Taken,
    Wanted,
)

__all__ = ["CANCELED", "Shadow", "due", "step", "told"]

CANCELED = "CANCELED"
_IN_PROGRESS = "IN_PROGRESS"
_NO_SHADOW = 404


@dataclass(frozen=True, slots=True)
class Pending:
    """The open request, how often it was sent, and when to send it again."""

    request: Get | Put
    tries: int
    due: float


@dataclass(frozen=True, slots=True)
class Shadow:
    """The machine's state; times are seconds on the caller's monotonic clock."""

    session: str
    pace: Pace
    connected: bool = False
    version: int = 0
    arn: str | None = None
    """The last deployment that was looked at."""
    cancelled: bool = False
    begun: bool = False
    """Whether the shadow was seen since start-up."""
    report: Report | None = None
    unsaid: bool = False
    """Whether ``report`` is not in the shadow yet."""
    pending: Pending | None = None
    curious: bool = False
    setbacks: int = 0
    quiet_until: float = 0.0
    refresh_at: float = 0.0
    sent: int = 0


Moved: TypeAlias = tuple[Shadow, tuple[Effect, ...]]


def step(state: Shadow, event: Event, now: float) -> Moved:
    """The state after ``event``, and what is to be done because of it, in order."""
    heard, effects = _hear(state, event, now)
    spoken, said = _speak(heard, now)
    return spoken, effects + said


def due(state: Shadow) -> float | None:
    """When the next ``Tick`` is wanted; None while there is no link."""
    if not state.connected:
        return None
    if state.pending is not None:
        return state.pending.due
    return state.quiet_until if state.curious or state.unsaid else state.refresh_at


def told(report: Report) -> dict[str, Any]:
    """A report as the shadow holds it.

    >>> told(Report("arn:1", "SUCCEEDED", "SUCCESSFUL"))["statusDetails"]["detailedStatus"]
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


def _hear(state: Shadow, event: Event, now: float) -> Moved:
    moved: Moved = state, ()
    match event:
        case Connected():
            moved = replace(state, connected=True, pending=None, curious=True, setbacks=0, quiet_until=now), ()
        case Disconnected():
            moved = replace(state, connected=False, pending=None), ()
        case Got(version=version) if version >= state.version:
            moved = _got(_closed(state, Get, now), event)
        case Missing(code):
            moved = _missing(state, code, now), ()
        case Changed(version) if version > state.version:
            moved = replace(state, curious=True), ()
        case Taken() | Rejected():
            moved = _answered(state, event, now), ()
        case Wanted(report):
            moved = replace(state, report=report, unsaid=True), ()
        case Tick():
            moved = _passed(state, now)
        case _:  # an older answer
            pass
    return moved


def _speak(state: Shadow, now: float) -> Moved:
    if not state.connected or state.pending is not None or now < state.quiet_until:
        return state, ()
    request: Get | Put
    if state.curious:
        request = Get()
    elif state.unsaid and state.report is not None:
        request = Put(f"{state.session}-{state.sent + 1}", state.report, state.version)
    else:
        return state, ()
    pending = Pending(request, 1, now + state.pace.patience(0))
    return replace(state, pending=pending, curious=False, sent=state.sent + 1), (request,)


def _got(state: Shadow, got: Got) -> Moved:
    seen = replace(state, version=got.version, begun=True, unsaid=_differs(state.report, got.reported))
    deployment, wanted = _desired(got.desired)
    if deployment is None:
        return seen, ()
    cancelled = wanted == CANCELED
    if deployment.arn == state.arn:
        if cancelled and not state.cancelled:
            return replace(seen, cancelled=True), (CancelDeployment(deployment.arn),)
        return seen, ()
    seen = replace(seen, arn=deployment.arn, cancelled=cancelled)
    over = not state.begun and _reported_end(got.reported, deployment.arn)
    return seen, () if cancelled or over else (StartDeployment(deployment),)


def _desired(desired: Mapping[str, Any]) -> tuple[Deployment | None, str]:
    """The deployment that is desired and its desired status; None when it is not whole."""
    text, status = desired.get("fleetConfig"), desired.get("desiredStatus")
    if not isinstance(text, str) or not isinstance(status, str):
        return None, ""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None, ""
    arn = document.get("configurationArn") if isinstance(document, dict) else None
    return (Deployment(arn, text.encode()), status) if isinstance(arn, str) and arn else (None, "")


def _reported_end(reported: Mapping[str, Any], arn: str) -> bool:
    return reported.get("fleetConfigurationArnForStatus") == arn and reported.get("status") != _IN_PROGRESS


def _differs(report: Report | None, reported: Mapping[str, Any]) -> bool:
    return report is not None and any(reported.get(key) != value for key, value in told(report).items())


def _missing(state: Shadow, code: int, now: float) -> Shadow:
    if code == _NO_SHADOW:
        return replace(_closed(state, Get, now), version=0, begun=True, unsaid=False)
    asked = state.pending is not None and isinstance(state.pending.request, Get)
    return _set_back(state, now) if asked else state


def _answered(state: Shadow, answer: Taken | Rejected, now: float) -> Shadow:
    """What became of our report; an answer to another is ignored."""
    put = state.pending.request if state.pending is not None else None
    if not isinstance(put, Put) or put.token != answer.token:
        return state
    if isinstance(answer, Rejected):
        return _set_back(state, now)
    version, unsaid = max(answer.version, state.version), state.report != put.report
    return replace(_closed(state, Put, now), version=version, unsaid=unsaid, setbacks=0)


def _closed(state: Shadow, kind: type[Get | Put], now: float) -> Shadow:
    """Answered: a request of this kind is open no more."""
    mine = state.pending is not None and isinstance(state.pending.request, kind)
    refresh_at = now + state.pace.refresh()
    return replace(state, pending=None if mine else state.pending, refresh_at=refresh_at)


def _set_back(state: Shadow, now: float) -> Shadow:
    """Get the shadow again, after a while if this happens often."""
    setbacks = state.setbacks + 1
    quiet_until = now + (state.pace.pause(setbacks) if setbacks > 1 else 0.0)
    return replace(state, pending=None, curious=True, setbacks=setbacks, quiet_until=quiet_until)


def _passed(state: Shadow, now: float) -> Moved:
    pending = state.pending
    if pending is not None and now >= pending.due and state.connected:
        again = Pending(pending.request, pending.tries + 1, now + state.pace.patience(pending.tries))
        return replace(state, pending=again), (pending.request,)
    if pending is None and now >= state.refresh_at:
        return replace(state, curious=True, refresh_at=now + state.pace.refresh()), ()
    return state, ()
