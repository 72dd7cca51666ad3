"""How one execution goes on: by its device, or ended by the service.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import Execution, TimeoutConfig
from agent.aws.jobs.service.rules import BY_SERVICE, MINUTE_S

__all__ = ["CLEARED", "Change", "changed", "ended_by_service"]

CLEARED = -1.0
"""The step time-out, in minutes, that stops a running timer."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a device tells of an execution; None leaves as it is.  A step time-out of -1 minute clears the timer."""

    status: Status
    details: Mapping[str, str] | None = None
    expected_version: int | None = None
    number: int | None = None
    step_timeout_minutes: float | None = None


def changed(found: Execution, change: Change, timeout: TimeoutConfig, now: float) -> Execution:
    """``found`` with what its device tells; the timers begin and end here."""
    begins = found.status is Status.QUEUED and change.status is Status.IN_PROGRESS
    whole, step = found.times_out_at, found.step_times_out_at
    minutes = timeout.in_progress_timeout_in_minutes
    if begins and minutes is not None:
        whole = now + minutes * MINUTE_S
    if change.step_timeout_minutes is not None:
        cleared = change.step_timeout_minutes == CLEARED
        step = None if cleared else now + change.step_timeout_minutes * MINUTE_S
    return replace(
        found,
        status=change.status,
        version=found.version + 1,
        details=dict(change.details) if change.details is not None else found.details,
        started_at=now if found.started_at is None and change.status is Status.IN_PROGRESS else found.started_at,
        last_updated_at=now,
        times_out_at=whole,
        step_times_out_at=step,
    )


def ended_by_service(found: Execution, status: Status, now: float) -> Execution:
    """``found`` at an end that its device did not bring about."""
    assert status in BY_SERVICE.get(found.status, ())  # noqa: S101 callers choose what is not at its end
    return replace(found, status=status, version=found.version + 1, last_updated_at=now)
