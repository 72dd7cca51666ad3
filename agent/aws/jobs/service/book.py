"""What the service knows, indexed: jobs, executions, groups, and who waits for what.  Pure, no rules.

Every value is frozen and put in as a whole; the book remembers what was put in since ``take_changes``, so that the
store writes that and no more, and what each thing's list looked like before, so that a device is told of a change
once and only if there is one.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import Execution, Job, group_of

__all__ = ["Alarm", "Book", "Changes", "Notice", "Place", "Records", "Run"]


class Place(NamedTuple):
    """Where a device hears of its jobs: a thing's topics in a namespace."""

    thing: str
    namespace: str


class Alarm(NamedTuple):
    """Something is to be looked at: an execution, or with an empty thing the job's roll-out."""

    when: float
    job_id: str
    thing: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A device is to be told: its list changed, or another job is next."""

    place: Place
    listed: bool
    next_changed: bool


@dataclass(frozen=True, slots=True)
class Records:
    """Everything there is to keep."""

    jobs: tuple[Job, ...] = ()
    executions: tuple[Execution, ...] = ()
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class Changes:
    """What was put in or, where the value is None, taken out; a job that is taken out takes its executions along."""

    jobs: dict[str, Job | None] = field(default_factory=dict)
    executions: dict[tuple[str, str, int], Execution] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...] | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.executions or self.groups)


@dataclass(slots=True)
class Run:
    """A job with what belongs to it."""

    job: Job
    executions: dict[str, list[Execution]] = field(default_factory=dict)
    """By thing, oldest first."""
    tally: Counter[Status] = field(default_factory=Counter)
    """Of each thing's latest execution."""
    waiting: deque[str] = field(default_factory=deque)
    """Targets that were not notified yet."""
    recent: deque[float] = field(default_factory=deque)
    """When things were notified, within the last minute."""
    looks_at: float = -1.0
    """When the roll-out is looked at next."""

    def latest(self) -> Iterator[Execution]:
        """Each thing's latest execution."""
        return (history[-1] for history in self.executions.values())


Signature = tuple[frozenset[tuple[str, int]], tuple[str, int] | None]


class Book:
    """The indexed values."""

    def __init__(self, records: Records | None = None) -> None:
        self.runs: dict[str, Run] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.alarms: list[Alarm] = []
        self.sequence = 0
        self._pending: dict[Place, dict[str, Execution]] = {}
        self._changes = Changes()
        self._before: dict[Place, Signature] = {}
        if records is not None:
            self._read(records)

    def _read(self, records: Records) -> None:
        for name, things in records.groups:
            self.put_group(name, things)
        for job in records.jobs:
            self.put_job(job)
        for execution in sorted(records.executions, key=lambda one: (one.job_id, one.thing, one.number)):
            self.put_execution(execution)
        self.take_changes()
        self.take_notices()

    # -- reading --------------------------------------------------------------------------------------

    def pending(self, place: Place) -> list[Execution]:
        """What is not at its end there, what is next first."""
        return sorted(self._pending.get(place, {}).values(), key=lambda one: one.order)

    def next(self, place: Place) -> Execution | None:
        """What is to be done next there."""
        return min(self._pending.get(place, {}).values(), key=lambda one: one.order, default=None)

    def places(self) -> list[Place]:
        """Where something is pending."""
        return list(self._pending)

    def members(self, targets: Iterable[str]) -> dict[str, None]:
        """The things that ``targets`` name, each once, in order; a group nobody filled is empty."""
        found: dict[str, None] = {}
        for target in targets:
            group = group_of(target)
            found |= dict.fromkeys((target,) if group is None else self.groups.get(group, ()))
        return found

    # -- writing --------------------------------------------------------------------------------------

    def put_job(self, job: Job) -> Run:
        """Keep a job, new or changed."""
        run = self.runs.get(job.spec.job_id)
        if run is None:
            run = self.runs[job.spec.job_id] = Run(job)
        run.job = job
        self._changes.jobs[job.spec.job_id] = job
        return run

    def drop_job(self, job_id: str) -> None:
        """Forget a job and its executions."""
        run = self.runs.pop(job_id)
        for execution in run.latest():
            place = Place(execution.thing, run.job.spec.namespace_id)
            self._remember(place)
            self._settle(place, execution.job_id, None)
        self._changes.jobs[job_id] = None
        written = self._changes.executions
        self._changes.executions = {key: one for key, one in written.items() if key[0] != job_id}

    def put_execution(self, execution: Execution) -> None:
        """Keep an execution, new or changed."""
        run = self.runs[execution.job_id]
        history = run.executions.setdefault(execution.thing, [])
        known_due = None
        if history:
            known_due = history[-1].due
            run.tally[history[-1].status] -= 1
        if history and history[-1].number == execution.number:
            history[-1] = execution
        else:
            history.append(execution)
        run.tally[execution.status] += 1
        self.sequence = max(self.sequence, execution.sequence)
        self._changes.executions[execution.job_id, execution.thing, execution.number] = execution
        place = Place(execution.thing, run.job.spec.namespace_id)
        self._remember(place)
        self._settle(place, execution.job_id, None if execution.status.terminal else execution)
        if (due := execution.due) is not None and due != known_due:
            self.alarm(due, execution.job_id, execution.thing)

    def put_group(self, name: str, things: tuple[str, ...]) -> None:
        """Keep a group; an empty one is forgotten."""
        if things:
            self.groups[name] = things
        else:
            self.groups.pop(name, None)
        self._changes.groups[name] = things or None

    def alarm(self, when: float, job_id: str, thing: str = "") -> None:
        """Have this looked at then."""
        heapq.heappush(self.alarms, Alarm(when, job_id, thing))

    # -- what came of it ------------------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """What is to be written down since the last time."""
        changes, self._changes = self._changes, Changes()
        return changes

    def take_notices(self) -> list[Notice]:
        """What devices are to be told since the last time."""
        before, self._before = self._before, {}
        notices = []
        for place, (listed, following) in before.items():
            now_listed, now_following = self._signature(place)
            if (listed, following) != (now_listed, now_following):
                notices.append(Notice(place, listed != now_listed, following != now_following))
        return notices

    def _settle(self, place: Place, job_id: str, execution: Execution | None) -> None:
        if execution is not None:
            self._pending.setdefault(place, {})[job_id] = execution
        elif place in self._pending:
            self._pending[place].pop(job_id, None)
            if not self._pending[place]:
                del self._pending[place]

    def _remember(self, place: Place) -> None:
        if place not in self._before:
            self._before[place] = self._signature(place)

    def _signature(self, place: Place) -> Signature:
        following = self.next(place)
        listed = frozenset((one.job_id, one.number) for one in self._pending.get(place, {}).values())
        return listed, None if following is None else (following.job_id, following.number)
