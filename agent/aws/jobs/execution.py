"""The device's side of the Jobs conversation: a pure state machine with room for one job.

::

    IDLE ── a queued job ──→ CLAIMING ── IN_PROGRESS accepted ──→ RUNNING ── Finished ──→ ENDING ── accepted ──→ IDLE
    IDLE ── a job in progress (start-next, or recovered) ───────→ RUNNING ── not next any more ──→ CANCELLING
                                                                             CANCELLING ── Finished ──→ IDLE

Only answers count.  A notification, however late or often it comes, makes the machine ask what is next and nothing
else; a question carries a token, and what answers another token is ignored.  One request is open at a time: it is
repeated with growing patience until it is answered, and after a reconnection the machine asks first and then sends
what was kept, in order, with the version it was told.

Every update names the execution's number and the version it expects, so a late copy of it changes nothing.  A
rejected version makes the machine ask again: the job in progress is always the next one, so the answer tells its
version, or that it was cancelled, timed out or removed.  A job that is gone gets no further updates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec

from agent.aws.jobs.events import (
    Accepted,
    Ask,
    Cancel,
    Connected,
    Disconnected,
    Effect,
    Event,
    Finished,
    Job,
    Notified,
    Progress,
    Rejected,
    Report,
    Start,
    Tick,
    Told,
    Update,
)
from agent.aws.jobs.messages import JobExecution, Status
from agent.aws.jobs.pace import Pace
from agent.aws.jobs.tables import AFTER_ANSWER, ON_REJECTED_QUESTION, ON_REJECTED_UPDATE, Act, Phase, Remedy, Seen

__all__ = ["Conversation", "due", "refusal", "step"]


@dataclass(frozen=True, slots=True)
class Pending:
    """The open request, how often it was sent, and when to send it again."""

    request: Ask | Update
    tries: int
    due: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """The machine's state; times are seconds on the caller's monotonic clock.

    ``session`` makes tokens unlike those of an earlier process; ``begins``: whether the namespace has start-next.
    """

    session: str
    pace: Pace
    begins: bool = True
    connected: bool = False
    phase: Phase = Phase.IDLE
    job: Job | None = None
    version: int = 0
    reports: tuple[Report, ...] = ()
    """The first is the one that is sent; at most a claim or two reports of progress, and the end."""
    pending: Pending | None = None
    curious: bool = False
    """Whether to ask what is next as soon as nothing is open."""
    setbacks: int = 0
    """Rejections in a row."""
    quiet_until: float = 0.0
    refresh_at: float = 0.0
    sent: int = 0


Moved: TypeAlias = tuple[Conversation, tuple[Effect, ...]]


def step(state: Conversation, event: Event, now: float) -> Moved:
    """The state after ``event``, and what is to be done because of it, in order."""
    heard, effects = _hear(state, event, now)
    spoken, said = _speak(heard, now)
    return spoken, effects + said


def due(state: Conversation) -> float | None:
    """When the next ``Tick`` is wanted; None while there is no link."""
    if not state.connected:
        return None
    if state.pending is not None:
        return state.pending.due
    return state.quiet_until if state.curious or _sendable(state) else state.refresh_at


def refusal(document: bytes) -> str | None:
    """Why a document is none that Verge can run; None when it may be.

    >>> refusal(b'{"version": "1.0", "steps": []}')
    'the document is of the AWS managed-template style (steps); a Greengrass deployment document is needed'
    """
    try:
        told = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"the document is no JSON: {error}"
    if not isinstance(told, dict) or not told:
        return "the document is no JSON object, or an empty one"
    if "steps" in told:
        return "the document is of the AWS managed-template style (steps); a Greengrass deployment document is needed"
    return None


def _hear(state: Conversation, event: Event, now: float) -> Moved:
    moved: Moved = state, ()  # what a late answer does, or news of a job that is not ours
    match event:
        case Connected():
            moved = replace(state, connected=True, pending=None, curious=True, setbacks=0, quiet_until=now), ()
        case Disconnected():
            moved = replace(state, connected=False, pending=None), ()
        case Notified(pending):
            moved = _notified(state, pending), ()
        case Told(token, execution) if isinstance(_awaited(state, token), Ask):
            moved = _told(_answered(state, now), execution)
        case Accepted(token, version) if isinstance(_awaited(state, token), Update):
            moved = _accepted(_answered(state, now), version)
        case Rejected(token, code) if (request := _awaited(state, token)) is not None:
            moved = _rejected(state, request, code, now)
        case Progress(job, details) if state.phase is Phase.RUNNING and job == state.job:
            moved = _reporting(state, Report(Status.IN_PROGRESS, details)), ()
        case Finished(job, status, details) if job == state.job:
            moved = _finished(state, Report(status, details)), ()
        case Tick():
            moved = _passed(state, now)
        case _:
            pass
    return moved


def _speak(state: Conversation, now: float) -> Moved:
    """Open the next request if none is open and it is time."""
    if not state.connected or state.pending is not None or now < state.quiet_until:
        return state, ()
    token = f"{state.session}-{state.sent + 1}"
    request: Ask | Update
    if state.curious:
        request = Ask(token, begin=state.begins and state.phase is Phase.IDLE)
    elif state.job is not None and _sendable(state):
        request = Update(token, state.job, state.reports[0], state.version)
    else:
        return state, ()
    pending = Pending(request, 1, now + state.pace.patience(0))
    return replace(state, pending=pending, curious=False, sent=state.sent + 1), (request,)


def _sendable(state: Conversation) -> bool:
    return bool(state.reports) and state.phase is not Phase.CANCELLING


def _awaited(state: Conversation, token: str) -> Ask | Update | None:
    """The open request if ``token`` is its."""
    if state.pending is None or state.pending.request.token != token:
        return None
    return state.pending.request


def _answered(state: Conversation, now: float) -> Conversation:
    """Nothing is open any more, and the service is there."""
    return replace(state, pending=None, quiet_until=now, refresh_at=now + state.pace.refresh())


def _notified(state: Conversation, pending: frozenset[tuple[str, int]]) -> Conversation:
    """Worth a question unless it tells what is known: nothing to do, or our job among what is pending."""
    job = state.job
    if (not pending) if job is None else (job.job_id, job.execution_number) in pending:
        return state
    waited = state.pending is not None and isinstance(state.pending.request, Ask) and state.pending.tries > 1
    # A service that was away is back: ask at once and not when patience ends.
    return replace(state, curious=True, pending=None if waited else state.pending)


def _told(state: Conversation, execution: JobExecution | None) -> Moved:
    found = _job(execution)
    phase, act = AFTER_ANSWER[state.phase, _seen(state, found, execution)]
    version = (execution.version_number or 0) if execution is not None else 0
    match act, state.job:
        case Act.TAKE, _:
            idle = replace(state, phase=phase, job=None, reports=(), setbacks=0)
            return _take(idle, found, execution.status if execution else None, version)
        case Act.START, Job() as job:
            return replace(state, phase=phase, version=version, reports=(), setbacks=0), (Start(job),)
        case Act.CANCEL, Job() as job:
            return replace(state, phase=phase, reports=(), setbacks=0), (Cancel(job),)
        case _:
            return replace(state, phase=phase, version=version, setbacks=state.setbacks if state.reports else 0), ()


def _seen(state: Conversation, found: Job | None, execution: JobExecution | None) -> Seen:
    if found is None or execution is None or (state.job is not None and not _same(found, state.job)):
        return Seen.GONE
    return Seen.QUEUED if execution.status is Status.QUEUED else Seen.IN_PROGRESS


def _job(execution: JobExecution | None) -> Job | None:
    """What can be run; an execution without a name or at its end is none."""
    if execution is None or not execution.job_id or execution.status is None or execution.status.terminal:
        return None
    document = bytes(execution.job_document)
    return Job(execution.job_id, execution.execution_number or 1, execution.queued_at or 0.0, document)


def _same(one: Job, other: Job) -> bool:
    """Whether both are the same run; an answer may come without the document."""
    return replace(one, document=b"") == replace(other, document=b"")


def _take(state: Conversation, job: Job | None, status: Status | None, version: int) -> Moved:
    if job is None:
        return state, ()
    taken = replace(state, job=job, version=version)
    if reason := refusal(job.document):
        details = ("detailed-deployment-status", "REJECTED"), ("deployment-failure-cause", reason)
        return replace(taken, phase=Phase.ENDING, reports=(Report(Status.REJECTED, details),)), ()
    if status is Status.QUEUED:
        return replace(taken, phase=Phase.CLAIMING, reports=(Report(Status.IN_PROGRESS),)), ()
    return replace(taken, phase=Phase.RUNNING), (Start(job),)


def _accepted(state: Conversation, version: int | None) -> Moved:
    told, *kept = state.reports
    state = replace(state, reports=tuple(kept), setbacks=0, version=version or state.version + 1)
    if told.status.terminal:
        return replace(state, phase=Phase.IDLE, job=None, reports=(), curious=True), ()
    if state.phase is Phase.CLAIMING and state.job is not None:
        return replace(state, phase=Phase.RUNNING), (Start(state.job),)
    return state, ()


def _rejected(state: Conversation, request: Ask | Update, code: str, now: float) -> Moved:
    table = ON_REJECTED_QUESTION if isinstance(request, Ask) else ON_REJECTED_UPDATE
    remedy = next((remedy for known, remedy in table.items() if known == code), Remedy.LATER)
    setbacks = state.setbacks + 1
    pause = now + (state.pace.pause(setbacks) if setbacks > 1 or remedy is Remedy.LATER else 0.0)
    if remedy is Remedy.NONE_PENDING:
        return _told(_answered(state, now), None)
    if remedy is Remedy.ASK:
        return replace(state, pending=None, curious=True, setbacks=setbacks, quiet_until=pause), ()
    reports = state.reports
    if remedy is Remedy.BARE:
        reports = (replace(reports[0], details=()), *reports[1:])
    asking = state.curious or isinstance(request, Ask)
    return replace(state, pending=None, curious=asking, reports=reports, setbacks=setbacks, quiet_until=pause), ()


def _reporting(state: Conversation, report: Report) -> Conversation:
    """Keep ``report`` behind what is on its way; progress that still waits is superseded by newer progress."""
    under_way = 1 if state.pending is not None and isinstance(state.pending.request, Update) else 0
    first, waiting = state.reports[:under_way], state.reports[under_way:]
    if not report.status.terminal:
        waiting = ()
    return replace(state, reports=(*first, *waiting, report))


def _finished(state: Conversation, report: Report) -> Conversation:
    if state.phase is Phase.RUNNING:
        return replace(_reporting(state, report), phase=Phase.ENDING)
    if state.phase is Phase.CANCELLING:
        return replace(state, phase=Phase.IDLE, job=None, reports=(), curious=True)
    return state


def _passed(state: Conversation, now: float) -> Moved:
    pending = state.pending
    if pending is not None and now >= pending.due and state.connected:
        again = Pending(pending.request, pending.tries + 1, now + state.pace.patience(pending.tries))
        return replace(state, pending=again), (pending.request,)
    if pending is None and now >= state.refresh_at:
        return replace(state, curious=True, refresh_at=now + state.pace.refresh()), ()
    return state, ()
