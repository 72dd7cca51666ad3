"""Between the conversation's values and what goes over the wire.  Pure."""

from __future__ import annotations

from agent.aws.jobs import messages
from agent.aws.jobs.events import Accepted, Ask, Event, Notified, Rejected, Told, Update
from agent.aws.jobs.messages import Wire, decode
from agent.aws.jobs.topics import JobTopics

__all__ = ["filters", "heard", "said"]


def filters(topics: JobTopics) -> tuple[str, ...]:
    """Every topic filter that the conversation needs; answers are told apart by their tokens."""
    begin = () if topics.namespace else (f"{topics.start_next}/+",)
    return (*begin, f"{topics.describe_next}/+", f"{topics.update('+')}/+", topics.notify, topics.notify_next)


def heard(topics: JobTopics, topic: str, payload: bytes) -> Event | None:
    """The event that a message is; None for a topic that is none of the conversation's.

    Raises ``msgspec.DecodeError`` or ``UnicodeDecodeError`` for a payload that cannot be read.
    """
    event: Event | None = None
    if topic == topics.notify:
        event = _listed(decode(messages.Notify, payload))
    elif topic == topics.notify_next:
        event = _next(decode(messages.NotifyNext, payload))
    elif topic.endswith("/rejected"):
        rejected = decode(messages.Rejected, payload)
        event = Rejected(rejected.client_token or "", rejected.code or "", rejected.message or "")
    elif topic in {f"{topics.start_next}/accepted", f"{topics.describe_next}/accepted"}:
        described = decode(messages.DescribeAccepted, payload)
        event = Told(described.client_token or "", described.execution)
    elif topic.endswith("/update/accepted"):
        updated = decode(messages.UpdateAccepted, payload)
        state = updated.execution_state
        event = Accepted(updated.client_token or "", state.version_number if state else None)
    return event


def said(topics: JobTopics, request: Ask | Update) -> tuple[str, Wire]:
    """Topic and payload of a request."""
    if isinstance(request, Update):
        return topics.update(request.job.job_id), _update(request)
    if request.begin:
        return topics.start_next, messages.StartNextRequest(client_token=request.token)
    return topics.describe_next, messages.DescribeRequest(client_token=request.token)


def _listed(told: messages.Notify) -> Notified:
    summaries = [summary for jobs in (told.jobs or {}).values() for summary in jobs]
    return Notified(frozenset((one.job_id, one.execution_number or 1) for one in summaries))


def _next(told: messages.NotifyNext) -> Notified:
    one = told.execution
    return Notified(frozenset({(one.job_id, one.execution_number or 1)} if one and one.job_id else ()))


def _update(update: Update) -> messages.UpdateRequest:
    return messages.UpdateRequest(
        status=update.report.status,
        status_details=dict(update.report.details) or None,
        expected_version=update.expected_version,
        execution_number=update.job.execution_number,
        include_job_execution_state=True,
        client_token=update.token,
    )
