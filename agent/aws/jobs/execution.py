"""The device's side of AWS IoT Jobs: a pure state machine with room for one job, its events, effects and tables.

::

    IDLE ── a queued job ──→ CLAIMING ── IN_PROGRESS accepted ──→ RUNNING ── Finished ──→ ENDING ── accepted ──→ IDLE
    IDLE ── a job in progress (start-next, or recovered) ───────→ RUNNING ── not next any more ──→ CANCELLING
                                                                             CANCELLING ── Finished ──→ IDLE

Only answers count.  A notification, however late or often it comes, makes the machine ask which job is next and nothing
else; every request carries a token, and an answer with another token is ignored.  One request is open at a time and is
repeated until it is answered (``retry``).  After a reconnection the machine asks first and then sends the reports that
it kept, in order, with the version that the answer named.

Every update names the execution's number and the version it expects, so a late copy of it changes nothing.  A
rejected version makes the machine ask again: the job in progress is always the next one, so the answer names its
version, or shows that it was cancelled, timed out or removed.  A job that is gone gets no further updates.

Where a thing has other agents too (``wants``), jobs of theirs are left alone: none is begun unseen, and ours is asked
for by its own name, since theirs may be the next one.  Behind one of theirs the machine looks for ours in the list of
what is pending.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from agent.aws.jobs import retry
from agent.aws.jobs.messages import Code, JobExecution, Status
from agent.aws.jobs.retry import Connected, Disconnected, ReportAccepted, RequestRejected, RequestState, Tick

__all__ = [
    "AFTER_ANSWER",
    "ON_REJECTED_QUESTION",
    "ON_REJECTED_UPDATE",
    "Act",
    "Cancel",
    "Conversation",
    "DescribeJob",
    "DescribeNext",
    "Effect",
    "Event",
    "Job",
    "JobFinished",
    "JobProgress",
    "JobReport",
    "JobState",
    "Leave",
    "ListPending",
    "NextJob",
    "Notified",
    "PendingJobs",
    "Phase",
    "Question",
    "Remedy",
    "Run",
    "Start",
    "Update",
    "due",
    "step",
]


Run: TypeAlias = tuple[str, int]
"""A job id and its execution number."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run of a job on this thing; ``document`` is its JSON text."""

    job_id: str
    execution_number: int
    queued_at: float
    document: bytes


@dataclass(frozen=True, slots=True)
class JobReport:
    """A status and its details, to be sent in an update."""

    status: Status
    details: tuple[tuple[str, str], ...] = ()


# -- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notified:
    """The service notifies of a change; ``pending`` are the runs it lists: job id and execution number."""

    pending: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class NextJob:
    """The answer to ``DescribeNext``: the next job, or none."""

    token: str
    execution: JobExecution | None


@dataclass(frozen=True, slots=True)
class PendingJobs:
    """The answer to ``ListPending``: job id and execution number of each."""

    token: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The owner reports progress of its job."""

    job: Job
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The owner is done with its job, also after a cancellation."""

    job: Job
    status: Status
    details: tuple[tuple[str, str], ...] = ()


Answer: TypeAlias = NextJob | PendingJobs | ReportAccepted | RequestRejected
Event: TypeAlias = (
    Connected
    | Disconnected
    | Notified
    | NextJob
    | PendingJobs
    | ReportAccepted
    | RequestRejected
    | JobProgress
    | JobFinished
    | Tick
)


# -- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DescribeNext:
    """Ask which job is next; ``begin``: and begin it."""

    token: str
    begin: bool


@dataclass(frozen=True, slots=True)
class DescribeJob:
    """Ask how a job stands; the answer is ``NextJob`` too."""

    token: str
    job_id: str
    execution_number: int


@dataclass(frozen=True, slots=True)
class ListPending:
    """Ask which jobs are pending."""

    token: str


@dataclass(frozen=True, slots=True)
class Update:
    """Report the job's status to the service."""

    token: str
    job: Job
    report: JobReport
    expected_version: int


@dataclass(frozen=True, slots=True)
class Start:
    """Hand the job to its owner, who answers with ``JobFinished``.

    A job that was in progress when the agent went away is handed out again; the owner knows whether it is done.
    """

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job is gone at the service: its owner is to stop it if it still can, and answers with ``JobFinished``."""

    job: Job


@dataclass(frozen=True, slots=True)
class Leave:
    """The job is another agent's: it is not begun, and nothing is reported of it."""

    job: Job


Question: TypeAlias = DescribeNext | DescribeJob | ListPending
Effect: TypeAlias = Question | Update | Start | Cancel | Leave


# -- tables ---------------------------------------------------------------------------------------------------


class Phase(enum.Enum):
    """Where the one job is."""

    IDLE = "idle"
    CLAIMING = "claiming"
    RUNNING = "running"
    ENDING = "ending"
    CANCELLING = "cancelling"


class JobState(enum.Enum):
    """The state of our job according to an answer."""

    QUEUED = "queued"
    IN_PROGRESS = "in progress"
    GONE = "gone"


class Act(enum.Enum):
    """What follows from an answer."""

    KEEP = "keep"
    START = "start"
    CANCEL = "cancel"
    TAKE = "take the job that the answer holds"


AFTER_ANSWER: Final = MappingProxyType(
    {
        (Phase.IDLE, JobState.QUEUED): (Phase.IDLE, Act.TAKE),
        (Phase.IDLE, JobState.IN_PROGRESS): (Phase.IDLE, Act.TAKE),
        (Phase.IDLE, JobState.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.CLAIMING, JobState.QUEUED): (Phase.CLAIMING, Act.KEEP),
        (Phase.CLAIMING, JobState.IN_PROGRESS): (Phase.RUNNING, Act.START),
        (Phase.CLAIMING, JobState.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.RUNNING, JobState.QUEUED): (Phase.RUNNING, Act.KEEP),
        (Phase.RUNNING, JobState.IN_PROGRESS): (Phase.RUNNING, Act.KEEP),
        (Phase.RUNNING, JobState.GONE): (Phase.CANCELLING, Act.CANCEL),
        (Phase.ENDING, JobState.QUEUED): (Phase.ENDING, Act.KEEP),
        (Phase.ENDING, JobState.IN_PROGRESS): (Phase.ENDING, Act.KEEP),
        (Phase.ENDING, JobState.GONE): (Phase.IDLE, Act.TAKE),
        (Phase.CANCELLING, JobState.QUEUED): (Phase.CANCELLING, Act.KEEP),
        (Phase.CANCELLING, JobState.IN_PROGRESS): (Phase.CANCELLING, Act.KEEP),
        (Phase.CANCELLING, JobState.GONE): (Phase.CANCELLING, Act.KEEP),
    }
)
"""(phase, state of our job in the answer) → (phase, what follows)."""


class Remedy(enum.Enum):
    """What to do about a rejected request."""

    ASK = "ask what is next"
    NONE_PENDING = "nothing is pending"
    BARE = "repeat without details"
    LATER = "repeat later"


ON_REJECTED_UPDATE: Final = MappingProxyType(
    {
        Code.VERSION_MISMATCH: Remedy.ASK,
        Code.INVALID_STATE_TRANSITION: Remedy.ASK,
        Code.RESOURCE_NOT_FOUND: Remedy.ASK,
        Code.TERMINAL_STATE_REACHED: Remedy.ASK,
        Code.INVALID_REQUEST: Remedy.BARE,
        Code.INVALID_JSON: Remedy.BARE,
        Code.INVALID_TOPIC: Remedy.LATER,
        Code.INTERNAL_ERROR: Remedy.LATER,
        Code.REQUEST_THROTTLED: Remedy.LATER,
    }
)

ON_REJECTED_QUESTION: Final = MappingProxyType(
    {Code.RESOURCE_NOT_FOUND: Remedy.NONE_PENDING, Code.TERMINAL_STATE_REACHED: Remedy.NONE_PENDING}
)
"""Any other code: later."""


# -- machine --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conversation(RequestState[Question | Update]):
    """The machine's state; ``begins``: whether the namespace has start-next.

    ``wants`` is whether a job is ours; None: all of them are.
    """

    begins: bool = True
    wants: Callable[[Job], bool] | None = None
    left: frozenset[Run] = frozenset()
    """Those of others that were seen."""
    must_list: bool = False
    candidates: tuple[Run, ...] = ()
    """Pending ones that were not seen so far."""
    phase: Phase = Phase.IDLE
    job: Job | None = None
    version: int = 0
    reports: tuple[JobReport, ...] = ()
    """The first is the one that is sent; at most a claim or two reports of progress, and the end."""


Transition: TypeAlias = tuple[Conversation, tuple[Effect, ...]]


def step(state: Conversation, event: Event, now: float) -> Transition:
    """The state after ``event``, and what is to be done because of it, in order."""
    state, effects = _after(state, event, now)
    state, requests = _next_request(state, now)
    return state, effects + requests


def due(state: Conversation) -> float | None:
    """When the next ``Tick`` is due; None without a connection."""
    return retry.next_tick(state, to_send=_sendable(state) or _searching(state))


def _after(state: Conversation, event: Event, now: float) -> Transition:
    after: Transition = state, ()  # late answers and news of a job that is not ours change nothing
    match event:
        case Connected():
            after = retry.connected(state, now), ()
        case Disconnected():
            after = retry.disconnected(state), ()
        case Notified(pending):
            after = _notified(state, pending), ()
        case NextJob() | PendingJobs() | ReportAccepted() | RequestRejected():
            after = _answered(state, event, now)
        case JobProgress(job, details) if state.phase is Phase.RUNNING and job == state.job:
            after = _reporting(state, JobReport(Status.IN_PROGRESS, details)), ()
        case JobFinished(job, status, details) if job == state.job:
            after = _finished(state, JobReport(status, details)), ()
        case Tick():
            state, repeated = retry.ticked(state, now)
            after = state, () if repeated is None else (repeated,)
        case _:
            pass
    return after


def _answered(state: Conversation, answer: Answer, now: float) -> Transition:
    """After an answer; one to another request than the open one changes nothing."""
    answered = retry.answered(state, now)
    match answer, _open_request(state, answer.token):
        case NextJob(_, execution), DescribeNext():
            following, effects = _next_job(answered, execution)
            return _behind(following, execution), effects
        case NextJob(_, execution), DescribeJob():
            return _described(answered, execution)
        case PendingJobs(_, runs), ListPending():
            return _listed(answered, runs), ()
        case ReportAccepted(_, version), Update():
            return _accepted(answered, version)
        case RequestRejected(_, code), (DescribeNext() | DescribeJob() | ListPending() | Update()) as request:
            return _rejected(state, request, code, now)
        case _:
            return state, ()


def _next_request(state: Conversation, now: float) -> Transition:
    """Open the next request if none is open and it is time."""
    if not retry.ready(state, now):
        return state, ()
    request: Question | Update
    if state.must_refresh and state.wants is not None and state.job is not None:
        request = DescribeJob(state.token, state.job.job_id, state.job.execution_number)
    elif state.must_refresh:
        request = DescribeNext(state.token, begin=state.begins and state.phase is Phase.IDLE)
        state = replace(state, must_list=False, candidates=())
    elif _searching(state):
        request = DescribeJob(state.token, *state.candidates[0]) if state.candidates else ListPending(state.token)
    elif state.job is not None and _sendable(state):
        request = Update(state.token, state.job, state.reports[0], state.version)
    else:
        return state, ()
    return retry.opened(state, request, now), (request,)


def _sendable(state: Conversation) -> bool:
    return bool(state.reports) and state.phase is not Phase.CANCELLING


def _searching(state: Conversation) -> bool:
    """Whether ours is looked for behind those of others."""
    return state.job is None and (state.must_list or bool(state.candidates))


def _open_request(state: Conversation, token: str) -> Question | Update | None:
    """The open request if it has this token."""
    if state.pending is None or state.pending.request.token != token:
        return None
    return state.pending.request


def _notified(state: Conversation, pending: frozenset[tuple[str, int]]) -> Conversation:
    """Ask, unless the list holds what is known: nothing of ours while idle, or our job among what is pending."""
    job = state.job
    if pending <= state.left if job is None else (job.job_id, job.execution_number) in pending:
        return state
    asked_in_vain = (
        state.pending is not None and not isinstance(state.pending.request, Update) and state.pending.tries > 1
    )
    # A service that was away is back: ask at once and not when the time-out ends.
    return replace(state, must_refresh=True, pending=None if asked_in_vain else state.pending)


def _next_job(state: Conversation, execution: JobExecution | None) -> Transition:
    offered = _job(execution)
    phase, act = AFTER_ANSWER[state.phase, _job_state(state, offered, execution)]
    version = (execution.version_number or 0) if execution is not None else 0
    match act, state.job:
        case Act.TAKE, _:
            idle = replace(state, phase=phase, job=None, reports=(), rejections=0)
            return _take(idle, offered, execution.status if execution else None, version)
        case Act.START, Job() as job:
            return replace(state, phase=phase, version=version, reports=(), rejections=0), (Start(job),)
        case Act.CANCEL, Job() as job:
            return replace(state, phase=phase, reports=(), rejections=0), (Cancel(job),)
        case _:
            rejections = state.rejections if state.reports else 0
            return replace(state, phase=phase, version=version, rejections=rejections), ()


def _behind(state: Conversation, execution: JobExecution | None) -> Conversation:
    """Look behind the next job where it is another's."""
    return replace(state, must_list=True) if state.job is None and _job(execution) is not None else state


def _described(state: Conversation, execution: JobExecution | None) -> Transition:
    """After the answer to a question about a job: ours, or one that may be."""
    if state.job is None:
        return _next_job(replace(state, candidates=state.candidates[1:]), execution)
    after, effects = _next_job(state, execution)
    return replace(after, must_refresh=after.must_refresh or after.job is None), effects


def _listed(state: Conversation, runs: tuple[Run, ...]) -> Conversation:
    candidates = tuple(run for run in runs if run not in state.left)
    return replace(state, must_list=False, candidates=candidates, left=state.left & frozenset(runs))


def _job_state(state: Conversation, offered: Job | None, execution: JobExecution | None) -> JobState:
    if offered is None or execution is None or (state.job is not None and not _same(offered, state.job)):
        return JobState.GONE
    return JobState.QUEUED if execution.status is Status.QUEUED else JobState.IN_PROGRESS


def _job(execution: JobExecution | None) -> Job | None:
    """The job that can be run; none for an execution without a name or at its end."""
    if execution is None or not execution.job_id or execution.status is None or execution.status.terminal:
        return None
    document = bytes(execution.job_document)
    return Job(execution.job_id, execution.execution_number or 1, execution.queued_at or 0.0, document)


def _same(one: Job, other: Job) -> bool:
    """Whether both are the same run; an answer may come without the document."""
    return replace(one, document=b"") == replace(other, document=b"")


def _take(state: Conversation, job: Job | None, status: Status | None, version: int) -> Transition:
    if job is None:
        return state, ()
    run = job.job_id, job.execution_number
    if state.wants is not None and not state.wants(job):
        return replace(state, left=state.left | {run}), () if run in state.left else (Leave(job),)
    taken = replace(state, job=job, version=version, must_list=False, candidates=())
    if status is Status.QUEUED:
        return replace(taken, phase=Phase.CLAIMING, reports=(JobReport(Status.IN_PROGRESS),)), ()
    return replace(taken, phase=Phase.RUNNING), (Start(job),)


def _accepted(state: Conversation, version: int | None) -> Transition:
    accepted, *kept = state.reports
    state = replace(state, reports=tuple(kept), rejections=0, version=version or state.version + 1)
    if accepted.status.terminal:
        return replace(state, phase=Phase.IDLE, job=None, reports=(), must_refresh=True), ()
    if state.phase is Phase.CLAIMING and state.job is not None:
        return replace(state, phase=Phase.RUNNING), (Start(state.job),)
    return state, ()


def _rejected(state: Conversation, request: Question | Update, code: str, now: float) -> Transition:
    question = not isinstance(request, Update)
    table = ON_REJECTED_QUESTION if question else ON_REJECTED_UPDATE
    remedy = next((remedy for known, remedy in table.items() if known == code), Remedy.LATER)
    if remedy is Remedy.NONE_PENDING:
        answered = retry.answered(state, now)
        if isinstance(request, ListPending):
            return _listed(answered, ()), ()
        return _described(answered, None) if isinstance(request, DescribeJob) else _next_job(answered, None)
    state = retry.rejected(state, now, later=remedy is Remedy.LATER)
    if remedy is Remedy.BARE:
        first, *rest = state.reports
        state = replace(state, reports=(replace(first, details=()), *rest))
    return replace(state, must_refresh=state.must_refresh or question or remedy is Remedy.ASK), ()


def _reporting(state: Conversation, report: JobReport) -> Conversation:
    """Keep ``report`` behind what is on its way; progress that still waits is superseded by newer progress."""
    under_way = 1 if state.pending is not None and isinstance(state.pending.request, Update) else 0
    first, waiting = state.reports[:under_way], state.reports[under_way:]
    if not report.status.terminal:
        waiting = ()
    return replace(state, reports=(*first, *waiting, report))


def _finished(state: Conversation, report: JobReport) -> Conversation:
    if state.phase is Phase.RUNNING:
        return replace(_reporting(state, report), phase=Phase.ENDING)
    if state.phase is Phase.CANCELLING:
        return replace(state, phase=Phase.IDLE, job=None, reports=(), must_refresh=True)
    return state
