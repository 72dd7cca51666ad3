"""Every job on every thing: the operations of devices and operators, and time-outs.  Pure; the clock is passed in.

A job is handed out to its targets at the pace of its roll-out: each gets an execution, QUEUED.  A device begins it
and reports; a timer that ends first makes it TIMED_OUT.  An execution that failed may be queued again under the next
number.  A snapshot job is COMPLETED when every target is at its end; a continuous one follows its groups, things that
leave them lose what is not at its end (REMOVED), and it runs until it is cancelled.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from agent.aws.jobs.messages import Code, Status
from agent.aws.jobs.service.job import (
    Execution,
    JobError,
    JobRecord,
    JobSpec,
    JobStatus,
    ManagementCode,
    check_names,
    group_of,
)
from agent.aws.jobs.service.repository import JobRepository, Mailbox, Run
from agent.aws.jobs.service.rules import (
    BY_DEVICE,
    MINUTE_S,
    ExecutionChange,
    aborts,
    changed,
    ended_by_service,
    rate_per_minute,
    retries,
)
from agent.aws.jobs.topics import NEXT

__all__ = ["ABORTED", "JobQueue"]

_PORTION = 2000
"""How many things a roll-out takes at a time, so that nobody waits for a large fleet's job to be written."""
ABORTED = "ABORTED"
"""Reason of a job that its abort criteria ended."""


class JobQueue:
    """The jobs of a fleet; times are seconds since the epoch and never go back."""

    def __init__(self, repository: JobRepository | None = None) -> None:
        self.repository = repository or JobRepository()
        for run in self.repository.runs.values():
            run.recent.extend(sorted(history[0].queued_at for history in run.executions.values()))
            self._enlist(run)
            if run.waiting:
                self.repository.set_timer(0.0, run.job.spec.job_id)

    # -- devices --------------------------------------------------------------------------------------

    def find(self, mailbox: Mailbox, job_id: str, number: int | None = None) -> Execution:
        """An execution there, ``$next`` included; raises ``JobError``."""
        if job_id == NEXT:
            execution = self.repository.next(mailbox)
        else:
            run = self.repository.runs.get(job_id)
            mine = (
                run.executions.get(mailbox.thing, []) if run and run.job.spec.namespace_id == mailbox.namespace else []
            )
            chosen = [one for one in mine if number in {None, one.number}]
            execution = chosen[-1] if chosen else None
        if execution is None:
            raise JobError(f"there is no job {job_id} for {mailbox.thing}", code=Code.RESOURCE_NOT_FOUND)
        return execution

    def start_next(
        self,
        mailbox: Mailbox,
        now: float,
        details: Mapping[str, str] | None = None,
        step_timeout_minutes: float | None = None,
    ) -> Execution | None:
        """The next execution, begun now unless it is in progress already."""
        execution = self.repository.next(mailbox)
        if execution is None or execution.status is Status.IN_PROGRESS:
            return execution
        change = ExecutionChange(Status.IN_PROGRESS, details, step_timeout_minutes=step_timeout_minutes)
        return self._put(
            changed(execution, change, self.repository.runs[execution.job_id].job.spec.timeout_config, now)
        )

    def update(self, mailbox: Mailbox, job_id: str, change: ExecutionChange, now: float) -> Execution:
        """Apply a device's update; raises ``JobError``."""
        execution = self.find(mailbox, job_id, change.number)
        run = self.repository.runs[execution.job_id]
        if change.status not in BY_DEVICE[execution.status]:
            raise JobError(
                f"{execution.status} cannot become {change.status}",
                code=Code.INVALID_STATE_TRANSITION,
                execution=execution,
            )
        if change.expected_version not in {None, execution.version}:
            raise JobError(
                f"the version is {execution.version} and not {change.expected_version}",
                code=Code.VERSION_MISMATCH,
                execution=execution,
            )
        updated = self._put(changed(execution, change, run.job.spec.timeout_config, now))
        if updated.status.terminal:
            self._ended(run, updated, now)
        return updated

    # -- operators ------------------------------------------------------------------------------------

    def create(self, spec: JobSpec, now: float) -> JobRecord:
        """Take a new job and begin its roll-out; raises ``JobError``."""
        spec = spec.checked()
        if spec.job_id in self.repository.runs:
            raise JobError(
                f"there is a job {spec.job_id}", code=ManagementCode.ALREADY_EXISTS, hint="name another --id"
            )
        snapshot = spec.target_selection == "SNAPSHOT"
        if snapshot:
            self._check_groups(spec.targets)
        job = JobRecord(
            spec=spec,
            status=JobStatus.IN_PROGRESS,
            things=tuple(self.repository.members(spec.targets)) if snapshot else (),
            created_at=now,
            last_updated_at=now,
        )
        run = self.repository.put_job(job)
        self._enlist(run)
        self._go_on(run, now)
        return run.job

    def _check_groups(self, targets: Iterable[str]) -> None:
        """A snapshot of an unknown group would be a job for nobody."""
        for group in filter(None, map(group_of, targets)):
            if group not in self.repository.groups:
                raise JobError(
                    f"there is no group {group}",
                    code=Code.RESOURCE_NOT_FOUND,
                    hint=f"fill it first: verge jobs groups {group} --add T1,T2",
                )

    def run(self, job_id: str) -> Run:
        """A job with its executions; raises ``JobError``."""
        run = self.repository.runs.get(job_id)
        if run is None:
            raise JobError(f"there is no job {job_id}", code=Code.RESOURCE_NOT_FOUND)
        return run

    def cancel(self, job_id: str, now: float, *, force: bool = False, reason: str | None = None) -> JobRecord:
        """Cancel queued executions, and with ``force`` those in progress; raises ``JobError``."""
        run = self.run(job_id)
        if run.job.status is not JobStatus.IN_PROGRESS and not (force and run.job.status is JobStatus.CANCELED):
            raise JobError(f"job {job_id} is {run.job.status}", code=Code.INVALID_STATE_TRANSITION)
        run.waiting.clear()
        ended = {Status.QUEUED, Status.IN_PROGRESS} if force else {Status.QUEUED}
        for execution in [one for one in run.latest() if one.status in ended]:
            self._put(ended_by_service(execution, Status.CANCELED, now))
        return self._close(run, JobStatus.CANCELED, now, reason)

    def cancel_execution(self, job_id: str, thing: str, now: float, *, force: bool = False) -> Execution:
        """Cancel a job on one thing; one in progress only with ``force``.  Raises ``JobError``."""
        run = self.run(job_id)
        execution = self.find(Mailbox(thing, run.job.spec.namespace_id), job_id)
        if execution.status.terminal or (execution.status is Status.IN_PROGRESS and not force):
            raise JobError(
                f"job {job_id} is {execution.status} on {thing}",
                code=Code.INVALID_STATE_TRANSITION,
                hint=None if execution.status.terminal else "cancel it with --force",
            )
        cancelled = self._put(ended_by_service(execution, Status.CANCELED, now))
        self._go_on(run, now)
        return cancelled

    def delete(self, job_id: str, *, force: bool = False) -> None:
        """Forget a job; one with executions that are not at their end only with ``force``.  Raises ``JobError``."""
        run = self.run(job_id)
        busy = run.job.status is JobStatus.IN_PROGRESS or any(not one.status.terminal for one in run.latest())
        if busy and not force:
            raise JobError(
                f"job {job_id} is not at its end",
                code=Code.INVALID_STATE_TRANSITION,
                hint="cancel it first, or delete it with --force",
            )
        self.repository.drop_job(job_id)

    def change_group(
        self, name: str, now: float, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """The things of a group after the change; continuous jobs follow.  Raises ``JobError``."""
        add, remove = tuple(add), set(remove)
        check_names((name, *add))
        things = tuple(one for one in dict.fromkeys((*self.repository.groups.get(name, ()), *add)) if one not in remove)
        self.repository.put_group(name, things)
        for run in self.repository.runs.values():
            if (
                run.job.continuous
                and run.job.status is JobStatus.IN_PROGRESS
                and f"group:{name}" in run.job.spec.targets
            ):
                self._follow(run, now)
        return things

    # -- time -----------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When ``tick`` has something to do."""
        return self.repository.timers[0].when if self.repository.timers else None

    def tick(self, now: float) -> None:
        """Apply the time-outs and roll-outs that are due."""
        timers = self.repository.timers
        while timers and timers[0].when <= now:
            timer = heapq.heappop(timers)
            run = self.repository.runs.get(timer.job_id)
            if run is None:
                continue
            if not timer.thing:
                self._go_on(run, now)
            elif history := run.executions.get(timer.thing):
                self._time_out(run, history[-1], now)

    def _time_out(self, run: Run, execution: Execution, now: float) -> None:
        due = execution.due
        if due is not None and due <= now:
            self._ended(run, self._put(ended_by_service(execution, Status.TIMED_OUT, now)), now)

    # -- the course of a job --------------------------------------------------------------------------

    def _enlist(self, run: Run) -> None:
        """Put every target on the waiting list that has no execution, or was removed and is back."""
        if run.job.status is not JobStatus.IN_PROGRESS:
            return
        targets = self.repository.members(run.job.spec.targets) if run.job.continuous else run.job.things
        run.waiting.clear()
        for thing in targets:
            history = run.executions.get(thing)
            if history is None or (run.job.continuous and history[-1].status is Status.REMOVED):
                run.waiting.append(thing)

    def _follow(self, run: Run, now: float) -> None:
        """A target group of a continuous job changed."""
        if run.job.status is not JobStatus.IN_PROGRESS:
            return
        targets = self.repository.members(run.job.spec.targets)
        for execution in [one for one in run.latest() if not one.status.terminal and one.thing not in targets]:
            self._put(ended_by_service(execution, Status.REMOVED, now))
        self._enlist(run)
        self._go_on(run, now)

    def _ended(self, run: Run, execution: Execution, now: float) -> None:
        """An execution came to its end by its device or by time."""
        spec, history = run.job.spec, run.executions[execution.thing]
        if run.job.status is not JobStatus.IN_PROGRESS:
            return
        if retries(spec.job_executions_retry_config, history):
            self._queue(run, execution.thing, now)
        elif aborts(spec.abort_config, run.tally):
            self.cancel(spec.job_id, now, reason=ABORTED)
        else:
            self._go_on(run, now)

    def _go_on(self, run: Run, now: float) -> None:
        """Notify as many waiting things as the roll-out allows; complete the job when none is left."""
        if run.job.status is not JobStatus.IN_PROGRESS:
            return
        while run.recent and run.recent[0] + MINUTE_S <= now:
            run.recent.popleft()
        for _ in range(_PORTION):
            if not run.waiting:
                break
            rate = rate_per_minute(
                run.job.spec.job_executions_rollout_config, len(run.executions), run.tally[Status.SUCCEEDED]
            )
            if rate is not None and len(run.recent) >= rate:
                self._examine_later(run, run.recent[len(run.recent) - rate] + MINUTE_S)
                return
            self._queue(run, run.waiting.popleft(), now)
            run.recent.append(now)
        if run.waiting:
            self._examine_later(run, math.nextafter(now, math.inf))
        elif not run.job.continuous and all(one.terminal for one, count in run.tally.items() if count):
            self._close(run, JobStatus.COMPLETED, now)

    def _examine_later(self, run: Run, when: float) -> None:
        if run.examined_at != when:
            run.examined_at = when
            self.repository.set_timer(when, run.job.spec.job_id)

    def _queue(self, run: Run, thing: str, now: float) -> None:
        history = run.executions.get(thing)
        execution = Execution(
            job_id=run.job.spec.job_id,
            thing=thing,
            number=history[-1].number + 1 if history else 1,
            status=Status.QUEUED,
            version=1,
            queued_at=now,
            sequence=self.repository.sequence + 1,
            last_updated_at=now,
        )
        self._put(execution)

    def _close(self, run: Run, status: JobStatus, now: float, reason: str | None = None) -> JobRecord:
        job = run.job
        ended = job.completed_at or now
        self.repository.put_job(
            replace(job, status=status, last_updated_at=now, completed_at=ended, reason_code=reason or job.reason_code)
        )
        return run.job

    def _put(self, execution: Execution) -> Execution:
        self.repository.put_execution(execution)
        return execution
