"""Between the values of a device's two conversations and their topics and payloads.  Pure.

Reading raises ``msgspec.DecodeError`` or ``UnicodeDecodeError`` for a payload that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from agent.aws.jobs import messages, shadow
from agent.aws.jobs.execution import DescribeJob, ListPending, NextJob, Notified, PendingJobs, Question, Update
from agent.aws.jobs.execution import Event as JobEvent
from agent.aws.jobs.messages import decode, encode
from agent.aws.jobs.retry import ReportAccepted, RequestRejected
from agent.aws.jobs.shadow import GetRejected, GetShadow, ShadowChanged, ShadowReceived, UpdateShadow
from agent.aws.jobs.topics import JobTopics, ShadowTopics

__all__ = ["JobCodec", "ShadowCodec"]


@dataclass(frozen=True, slots=True)
class JobCodec:
    """The wire form of the Jobs conversation."""

    topics: JobTopics

    def event(self, topic: str, payload: bytes) -> JobEvent | None:
        """The event that a message is; None for a topic that is none of the conversation's."""
        topics = self.topics
        event: JobEvent | None = None
        if topic == topics.notify:
            event = _listed(decode(messages.Notify, payload))
        elif topic == topics.notify_next:
            event = _next(decode(messages.NotifyNext, payload))
        elif topic.endswith("/rejected"):
            rejected = decode(messages.RejectedResponse, payload)
            event = RequestRejected(rejected.client_token or "", rejected.code or "", rejected.message or "")
        elif topic == f"{topics.pending}/accepted":
            event = _pending(decode(messages.GetPendingAccepted, payload))
        elif topic == f"{topics.start_next}/accepted" or topic.endswith("/get/accepted"):
            described = decode(messages.DescribeAccepted, payload)
            event = NextJob(described.client_token or "", described.execution)
        elif topic.endswith("/update/accepted"):
            updated = decode(messages.UpdateAccepted, payload)
            state = updated.execution_state
            event = ReportAccepted(updated.client_token or "", state.version_number if state else None)
        return event

    def message(self, request: Question | Update) -> tuple[str, bytes]:
        """Topic and payload of a request."""
        topics = self.topics
        match request:
            case Update(job=job):
                return topics.update(job.job_id), encode(_update(request))
            case DescribeJob(token, job_id, number):
                described = messages.DescribeRequest(execution_number=number, client_token=token)
                return topics.describe(job_id), encode(described)
            case ListPending(token):
                return topics.pending, encode(messages.GetPendingRequest(client_token=token))
            case _ if request.begin:
                return topics.start_next, encode(messages.StartNextRequest(client_token=request.token))
            case _:
                return topics.describe_next, encode(messages.DescribeRequest(client_token=request.token))


def _listed(notify: messages.Notify) -> Notified:
    summaries = [summary for jobs in (notify.jobs or {}).values() for summary in jobs]
    return Notified(frozenset((one.job_id, one.execution_number or 1) for one in summaries))


def _pending(listed: messages.GetPendingAccepted) -> PendingJobs:
    summaries = (*(listed.in_progress_jobs or ()), *(listed.queued_jobs or ()))
    return PendingJobs(listed.client_token or "", tuple((one.job_id, one.execution_number or 1) for one in summaries))


def _next(notify: messages.NotifyNext) -> Notified:
    one = notify.execution
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


class _ShadowState(msgspec.Struct, frozen=True):
    desired: dict[str, Any] | None = None
    reported: dict[str, Any] | None = None


class _ShadowPayload(msgspec.Struct, frozen=True, rename="camel"):
    """What the payloads of a shadow have in common."""

    state: _ShadowState | None = None
    version: int | None = None
    code: int | None = None
    message: str | None = None
    client_token: str | None = None


_shadow_payload = msgspec.json.Decoder(_ShadowPayload, strict=False).decode


@dataclass(frozen=True, slots=True)
class ShadowCodec:
    """The wire form of the deployment shadow; tokens that begin with ``session`` are ours."""

    topics: ShadowTopics
    session: str
    nucleus_version: str

    def event(self, topic: str, payload: bytes) -> shadow.Event | None:
        """The event that a message is; None for one that is of no interest."""
        kind = topic.removeprefix(f"{self.topics.base}/")
        if kind == "update/documents":
            return None
        read = _shadow_payload(payload)
        version, token, state = read.version or 0, read.client_token or "", read.state or _ShadowState()
        event: shadow.Event | None = None
        match kind:
            case "get/accepted":
                event = ShadowReceived(version, state.desired or {}, state.reported or {})
            case "get/rejected":
                event = GetRejected(read.code or 0)
            case "update/accepted":
                event = ReportAccepted(token, version) if token.startswith(self.session) else ShadowChanged(version)
            case "update/rejected":
                event = RequestRejected(token, str(read.code or ""), read.message or "")
            case "update/delta":
                event = ShadowChanged(version)
            case _:
                pass
        return event

    def message(self, request: GetShadow | UpdateShadow) -> tuple[str, bytes]:
        """Topic and payload of a request."""
        if isinstance(request, GetShadow):
            return self.topics.get, b""
        reported = {**shadow.reported_state(request.report), "ggcVersion": self.nucleus_version}
        update = {"state": {"reported": reported}, "version": request.version, "clientToken": request.token}
        return self.topics.update, msgspec.json.encode(update)
