"""The rules of AWS IoT Jobs for a job and its executions: tables and arithmetic.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import AbortConfig, Execution, RetryConfig, RolloutConfig, TimeoutConfig

__all__ = [
    "BY_DEVICE",
    "BY_SERVICE",
    "CLEARED",
    "FAILURES",
    "MINUTE_S",
    "ExecutionChange",
    "aborts",
    "changed",
    "ended_by_service",
    "rate_per_minute",
    "retries",
]

MINUTE_S = 60.0
CLEARED = -1.0
"""The step time-out, in minutes, that stops a running timer."""

_DONE = frozenset({Status.SUCCEEDED, Status.FAILED, Status.REJECTED})

BY_DEVICE: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: _DONE | {Status.IN_PROGRESS},
        Status.IN_PROGRESS: _DONE | {Status.IN_PROGRESS},
        Status.SUCCEEDED: frozenset(),
        Status.FAILED: frozenset(),
        Status.TIMED_OUT: frozenset(),
        Status.REJECTED: frozenset(),
        Status.REMOVED: frozenset(),
        Status.CANCELED: frozenset(),
    }
)
"""The statuses that a device may set after each status; the end is final."""

BY_SERVICE: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.CANCELED, Status.REMOVED}),
        Status.IN_PROGRESS: frozenset({Status.CANCELED, Status.REMOVED, Status.TIMED_OUT}),
    }
)
"""The statuses that the service may set; after every other status, none."""

FAILURES: Final[Mapping[str, frozenset[Status]]] = MappingProxyType(
    {
        "FAILED": frozenset({Status.FAILED}),
        "REJECTED": frozenset({Status.REJECTED}),
        "TIMED_OUT": frozenset({Status.TIMED_OUT}),
        "ALL": frozenset({Status.FAILED, Status.REJECTED, Status.TIMED_OUT}),
    }
)
"""Type of failure → the statuses that count as such."""

_EXECUTED = _DONE | {Status.TIMED_OUT}


def rate_per_minute(config: RolloutConfig, notified: int, succeeded: int) -> int | None:
    """How many things may be notified in any minute; None is no bound.

    The exponential rate has been multiplied once for each time a criterion was met in full, by the criterion that
    got furthest, and ``maximum_per_minute`` caps it.
    """
    growing, cap = config.exponential_rate, config.maximum_per_minute
    if growing is None:
        return cap
    criteria = growing.rate_increase_criteria
    steps = max(
        notified // criteria.number_of_notified_things if criteria.number_of_notified_things else 0,
        succeeded // criteria.number_of_succeeded_things if criteria.number_of_succeeded_things else 0,
    )
    # Past 2⁶⁴ every rate is no bound; the power of a float would overflow.
    rate = int(min(growing.base_rate_per_minute * growing.increment_factor ** min(steps, 64), 2.0**63))
    return rate if cap is None else min(rate, cap)


def aborts(config: AbortConfig, tally: Mapping[Status, int]) -> bool:
    """Whether a job whose things ended so is to be cancelled; ``tally`` counts each thing's latest execution."""
    executed = sum(tally.get(status, 0) for status in _EXECUTED)
    return any(
        executed >= criteria.min_number_of_executed_things
        and 100 * sum(tally.get(status, 0) for status in FAILURES[criteria.failure_type])
        >= criteria.threshold_percentage * executed
        for criteria in config.criteria_list
    )


def retries(config: RetryConfig, history: Sequence[Execution]) -> bool:
    """Whether a thing gets another run; ``history`` ends with the execution that just ended.

    A rejected execution is never repeated: the device has said that it will not.
    """
    ended = history[-1].status
    for criteria in config.criteria_list:
        counted = FAILURES[criteria.failure_type] - {Status.REJECTED}
        if ended in counted:
            return sum(execution.status in counted for execution in history) <= criteria.number_of_retries
    return False


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """A device's update of an execution; None leaves a value as it is, a step time-out of -1 clears the timer."""

    status: Status
    details: Mapping[str, str] | None = None
    expected_version: int | None = None
    number: int | None = None
    step_timeout_minutes: float | None = None


def changed(execution: Execution, change: ExecutionChange, timeout: TimeoutConfig, now: float) -> Execution:
    """The execution after its device's update; the timers begin and end here."""
    begins = execution.status is Status.QUEUED and change.status is Status.IN_PROGRESS
    started_at = execution.started_at
    if started_at is None and change.status is Status.IN_PROGRESS:
        started_at = now
    whole, step = execution.times_out_at, execution.step_times_out_at
    minutes = timeout.in_progress_timeout_in_minutes
    if begins and minutes is not None:
        whole = now + minutes * MINUTE_S
    if change.step_timeout_minutes is not None:
        cleared = change.step_timeout_minutes == CLEARED
        step = None if cleared else now + change.step_timeout_minutes * MINUTE_S
    return replace(
        execution,
        status=change.status,
        version=execution.version + 1,
        details=dict(change.details) if change.details is not None else execution.details,
        started_at=started_at,
        last_updated_at=now,
        times_out_at=whole,
        step_times_out_at=step,
    )


def ended_by_service(execution: Execution, status: Status, now: float) -> Execution:
    """The execution at an end that its device did not bring about."""
    assert status in BY_SERVICE.get(execution.status, ())  # noqa: S101 callers choose what is not at its end
    return replace(execution, status=status, version=execution.version + 1, last_updated_at=now)
