"""What AWS IoT Jobs lets happen to a job and its executions: tables and arithmetic.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import AbortConfig, Execution, RetryConfig, RolloutConfig

__all__ = ["BY_DEVICE", "BY_SERVICE", "FAILURES", "MINUTE_S", "aborts", "rate_per_minute", "retries"]

MINUTE_S = 60.0

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
"""What a device may make of each status; the end is final."""

BY_SERVICE: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.CANCELED, Status.REMOVED}),
        Status.IN_PROGRESS: frozenset({Status.CANCELED, Status.REMOVED, Status.TIMED_OUT}),
    }
)
"""What the service may; every other status is final."""

FAILURES: Final[Mapping[str, frozenset[Status]]] = MappingProxyType(
    {
        "FAILED": frozenset({Status.FAILED}),
        "REJECTED": frozenset({Status.REJECTED}),
        "TIMED_OUT": frozenset({Status.TIMED_OUT}),
        "ALL": frozenset({Status.FAILED, Status.REJECTED, Status.TIMED_OUT}),
    }
)
"""What counts as a failure of each type."""

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
