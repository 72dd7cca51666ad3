"""The protocol of devices over a queue: a request's topic and bytes in, topics and bytes out.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from agent.aws.jobs import messages
from agent.aws.jobs.messages import Code, Status, Wire, decode, encode
from agent.aws.jobs.service.job import Execution, JobError
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.service.repository import Mailbox, Notice
from agent.aws.jobs.service.rules import CLEARED, ExecutionChange
from agent.aws.jobs.topics import NEXT, JobOperation, JobTopics, RequestTopic, read_request

__all__ = ["Outgoing", "answer", "notifications", "refuse"]

MAX_TOKEN = 64
MAX_LISTED = 10
_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-")
_MAX_STEP_MINUTES = 10_080

Payload = TypeVar("Payload", bound=Wire)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish."""

    topic: str
    payload: bytes


class _Token(Wire, frozen=True):
    client_token: str | None = None


def answer(queue: JobQueue, prefix: str, topic: str, payload: bytes, now: float) -> Outgoing | None:
    """Serve a request: its answer, or None when the topic holds no request under ``prefix``."""
    request = read_request(prefix, topic)
    if request is None:
        return None
    try:
        accepted = _answer(queue, request, payload, now)
    except JobError as refused:
        return _rejected(topic, payload, refused, now)
    return Outgoing(f"{topic}/accepted", encode(accepted))


def refuse(topic: str, payload: bytes, code: Code, message: str, now: float) -> Outgoing:
    """The answer to a request that the service itself cannot serve now."""
    return _rejected(topic, payload, JobError(message, code=code), now)


def notifications(queue: JobQueue, prefix: str, notice: Notice, now: float) -> Iterator[Outgoing]:
    """The notifications of a device's change."""
    topics = JobTopics(notice.mailbox.thing, prefix, notice.mailbox.namespace)
    pending = queue.repository.pending(notice.mailbox)
    if notice.listed:
        jobs: dict[str, list[messages.ExecutionSummary]] = {}
        for execution in pending[:MAX_LISTED]:
            jobs.setdefault(execution.status, []).append(_summary(execution))
        yield Outgoing(topics.notify, encode(messages.Notify(timestamp=int(now), jobs=jobs)))
    if notice.next_changed:
        following = _execution(queue, pending[0], now) if pending else None
        yield Outgoing(topics.notify_next, encode(messages.NotifyNext(timestamp=int(now), execution=following)))


# -- one function an operation --------------------------------------------------------------------------------


def _answer(queue: JobQueue, request: RequestTopic, payload: bytes, now: float) -> Wire:
    if request.operation is None:
        raise JobError("the topic maps to no operation", code=Code.INVALID_TOPIC)
    mailbox = Mailbox(request.thing, request.namespace)
    return _OPERATIONS[request.operation](queue, mailbox, request.job_id, payload, now)


def _get_pending(queue: JobQueue, mailbox: Mailbox, _job_id: str, payload: bytes, now: float) -> Wire:
    request = _read(messages.GetPendingRequest, payload)
    pending = queue.repository.pending(mailbox)
    return messages.GetPendingAccepted(
        in_progress_jobs=[_summary(one) for one in pending if one.status is Status.IN_PROGRESS],
        queued_jobs=[_summary(one) for one in pending if one.status is Status.QUEUED],
        timestamp=int(now),
        client_token=request.client_token,
    )


def _start_next(queue: JobQueue, mailbox: Mailbox, _job_id: str, payload: bytes, now: float) -> Wire:
    request = _read(messages.StartNextRequest, payload)
    _check_details(request.status_details)
    minutes = _step_timeout(request.step_timeout_in_minutes)
    begun = queue.start_next(mailbox, now, request.status_details, minutes)
    execution = None if begun is None else _execution(queue, begun, now)
    return messages.DescribeAccepted(execution=execution, timestamp=int(now), client_token=request.client_token)


def _describe(queue: JobQueue, mailbox: Mailbox, job_id: str, payload: bytes, now: float) -> Wire:
    request = _read(messages.DescribeRequest, payload)
    described = None
    if job_id != NEXT or queue.repository.next(mailbox) is not None:
        execution = queue.find(mailbox, job_id, request.execution_number)
        if execution.status.terminal:
            raise JobError(f"job {job_id} is {execution.status}", code=Code.TERMINAL_STATE_REACHED)
        described = _execution(queue, execution, now, document=request.include_job_document is not False)
    return messages.DescribeAccepted(execution=described, timestamp=int(now), client_token=request.client_token)


def _update(queue: JobQueue, mailbox: Mailbox, job_id: str, payload: bytes, now: float) -> Wire:
    request = _read(messages.UpdateRequest, payload)
    if request.status is None or request.status not in Status.__members__:
        raise JobError(f"{request.status!r} is no status")
    _check_details(request.status_details)
    change = ExecutionChange(
        Status(request.status),
        request.status_details,
        request.expected_version,
        request.execution_number,
        _step_timeout(request.step_timeout_in_minutes),
    )
    updated = queue.update(mailbox, job_id, change, now)
    return messages.UpdateAccepted(
        execution_state=_state(updated) if request.include_job_execution_state else None,
        job_document=queue.repository.runs[updated.job_id].job.spec.document
        if request.include_job_document
        else messages.NO_DOCUMENT,
        timestamp=int(now),
        client_token=request.client_token,
    )


_OPERATIONS: Final = {
    JobOperation.GET_PENDING: _get_pending,
    JobOperation.START_NEXT: _start_next,
    JobOperation.DESCRIBE: _describe,
    JobOperation.UPDATE: _update,
}


# -- reading and checking -------------------------------------------------------------------------------------


def _read(kind: type[Payload], payload: bytes) -> Payload:
    try:
        read = decode(kind, payload)
    except msgspec.ValidationError as error:
        raise JobError(f"the request is not as it should be: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JobError(f"the request is no JSON: {error}", code=Code.INVALID_JSON) from error
    token = getattr(read, "client_token", None)
    if token is not None and len(token) > MAX_TOKEN:
        raise JobError(f"the client token has {len(token)} characters; {MAX_TOKEN} are allowed")
    return read


def _check_details(details: Mapping[str, str] | None) -> None:
    for key, value in (details or {}).items():
        if not 0 < len(key) <= messages.MAX_DETAIL_KEY or not _KEY.issuperset(key):
            raise JobError(f"{key!r} is no key of status details")
        if len(value) > messages.MAX_DETAIL_VALUE or messages.clean_details({key: value})[key] != value:
            raise JobError(f"the status detail {key} is too long, or holds control characters")


def _step_timeout(minutes: float | None) -> float | None:
    if minutes is not None and minutes != CLEARED and not 0 < minutes <= _MAX_STEP_MINUTES:
        raise JobError(f"a step time-out of {minutes:g} minutes is not between 1 and {_MAX_STEP_MINUTES}, nor -1")
    return minutes


# -- writing --------------------------------------------------------------------------------------------------


def _rejected(topic: str, payload: bytes, refused: JobError, now: float) -> Outgoing:
    try:
        token = decode(_Token, payload).client_token
    except (msgspec.DecodeError, UnicodeDecodeError):
        token = None
    message = messages.RejectedResponse(
        code=refused.code,
        message=refused.message,
        client_token=token,
        timestamp=int(now),
        execution_state=None if refused.execution is None else _state(refused.execution),
    )
    return Outgoing(f"{topic}/rejected", encode(message))


def _state(execution: Execution) -> messages.ExecutionState:
    return messages.ExecutionState(
        status=execution.status, status_details=dict(execution.details), version_number=execution.version
    )


def _summary(execution: Execution) -> messages.ExecutionSummary:
    return messages.ExecutionSummary(
        job_id=execution.job_id,
        queued_at=int(execution.queued_at),
        started_at=None if execution.started_at is None else int(execution.started_at),
        last_updated_at=int(execution.last_updated_at),
        version_number=execution.version,
        execution_number=execution.number,
    )


def _execution(queue: JobQueue, execution: Execution, now: float, *, document: bool = True) -> messages.JobExecution:
    due = execution.due
    return messages.JobExecution(
        job_id=execution.job_id,
        thing_name=execution.thing,
        job_document=queue.repository.runs[execution.job_id].job.spec.document if document else messages.NO_DOCUMENT,
        status=execution.status,
        status_details=dict(execution.details) or None,
        queued_at=int(execution.queued_at),
        started_at=None if execution.started_at is None else int(execution.started_at),
        last_updated_at=int(execution.last_updated_at),
        version_number=execution.version,
        execution_number=execution.number,
        approximate_seconds_before_timed_out=None if due is None else max(0, math.ceil(due - now)),
    )
