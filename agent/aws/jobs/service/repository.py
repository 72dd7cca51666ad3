"""Jobs, executions and groups, indexed, and what is pending for which device.  Pure, no rules.

Every value is frozen and put in as a whole; the repository remembers what was put in since ``take_changes``, so that
the store writes that and no more, and what each device's list looked like before, so that a device is notified of a
change once and only if there is one.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.job import Execution, JobRecord, group_of

__all__ = ["Changes", "JobRepository", "Mailbox", "Notice", "Records", "Run", "Timer"]


class Mailbox(NamedTuple):
    """Where a device gets its jobs: a thing's topics in a namespace."""

    thing: str
    namespace: str


class Timer(NamedTuple):
    """An execution, or with an empty thing a job's roll-out, is to be examined at that time."""

    when: float
    job_id: str
    thing: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A device is to be notified: its list changed, or another job is next."""

    mailbox: Mailbox
    listed: bool
    next_changed: bool


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that is stored."""

    jobs: tuple[JobRecord, ...] = ()
    executions: tuple[Execution, ...] = ()
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class Changes:
    """Values that were put in or, where they are None, removed; a removed job takes its executions along."""

    jobs: dict[str, JobRecord | None] = field(default_factory=dict)
    executions: dict[tuple[str, str, int], Execution] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...] | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.executions or self.groups)


@dataclass(slots=True)
class Run:
    """A job with what belongs to it."""

    job: JobRecord
    executions: dict[str, list[Execution]] = field(default_factory=dict)
    """By thing, oldest first."""
    tally: Counter[Status] = field(default_factory=Counter)
    """Of each thing's latest execution."""
    waiting: deque[str] = field(default_factory=deque)
    """Targets that were not notified yet."""
    recent: deque[float] = field(default_factory=deque)
    """When things were notified, within the last minute."""
    examined_at: float = -1.0
    """When the roll-out is examined next."""

    def latest(self) -> Iterator[Execution]:
        """Each thing's latest execution."""
        return (history[-1] for history in self.executions.values())


Signature = tuple[frozenset[tuple[str, int]], tuple[str, int] | None]


class JobRepository:
    """The indexed values."""

    def __init__(self, records: Records | None = None) -> None:
        self.runs: dict[str, Run] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.timers: list[Timer] = []
        self.sequence = 0
        self._pending: dict[Mailbox, dict[str, Execution]] = {}
        self._changes = Changes()
        self._before: dict[Mailbox, Signature] = {}
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

    def pending(self, mailbox: Mailbox) -> list[Execution]:
        """The executions there that are not at their end, the next one first."""
        return sorted(self._pending.get(mailbox, {}).values(), key=lambda one: one.order)

    def next(self, mailbox: Mailbox) -> Execution | None:
        """The execution there that is to be done next."""
        return min(self._pending.get(mailbox, {}).values(), key=lambda one: one.order, default=None)

    def mailboxes(self) -> list[Mailbox]:
        """Every mailbox with something pending."""
        return list(self._pending)

    def members(self, targets: Iterable[str]) -> dict[str, None]:
        """The things that ``targets`` name, without repeats, in order; an unknown group is empty."""
        things: dict[str, None] = {}
        for target in targets:
            group = group_of(target)
            things |= dict.fromkeys((target,) if group is None else self.groups.get(group, ()))
        return things

    # -- writing --------------------------------------------------------------------------------------

    def put_job(self, job: JobRecord) -> Run:
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
            mailbox = Mailbox(execution.thing, run.job.spec.namespace_id)
            self._remember(mailbox)
            self._settle(mailbox, execution.job_id, None)
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
        mailbox = Mailbox(execution.thing, run.job.spec.namespace_id)
        self._remember(mailbox)
        self._settle(mailbox, execution.job_id, None if execution.status.terminal else execution)
        if (due := execution.due) is not None and due != known_due:
            self.set_timer(due, execution.job_id, execution.thing)

    def put_group(self, name: str, things: tuple[str, ...]) -> None:
        """Keep a group; an empty one is forgotten."""
        if things:
            self.groups[name] = things
        else:
            self.groups.pop(name, None)
        self._changes.groups[name] = things or None

    def set_timer(self, when: float, job_id: str, thing: str = "") -> None:
        """Have an execution or, without a thing, a roll-out examined at that time."""
        heapq.heappush(self.timers, Timer(when, job_id, thing))

    # -- changes and notices ------------------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """The changes since the last call, to be stored."""
        changes, self._changes = self._changes, Changes()
        return changes

    def take_notices(self) -> list[Notice]:
        """The notices since the last call, to be sent to devices."""
        before, self._before = self._before, {}
        notices = []
        for mailbox, (listed, following) in before.items():
            now_listed, now_following = self._signature(mailbox)
            if (listed, following) != (now_listed, now_following):
                notices.append(Notice(mailbox, listed != now_listed, following != now_following))
        return notices

    def _settle(self, mailbox: Mailbox, job_id: str, execution: Execution | None) -> None:
        if execution is not None:
            self._pending.setdefault(mailbox, {})[job_id] = execution
        elif mailbox in self._pending:
            self._pending[mailbox].pop(job_id, None)
            if not self._pending[mailbox]:
                del self._pending[mailbox]

    def _remember(self, mailbox: Mailbox) -> None:
        if mailbox not in self._before:
            self._before[mailbox] = self._signature(mailbox)

    def _signature(self, mailbox: Mailbox) -> Signature:
        following = self.next(mailbox)
        listed = frozenset((one.job_id, one.number) for one in self._pending.get(mailbox, {}).values())
        return listed, None if following is None else (following.job_id, following.number)
