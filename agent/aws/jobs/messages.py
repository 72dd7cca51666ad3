"""The payloads of AWS IoT Jobs as frozen values.

Lenient on what comes in: unknown keys are ignored, null is absent, an empty execution is none, numbers may be
written as floats or text.  Exact on what goes out: camel case, whole epoch seconds, nothing that was not given.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

__all__ = [
    "NO_DOCUMENT",
    "Code",
    "DescribeAccepted",
    "DescribeRequest",
    "ExecutionState",
    "ExecutionSummary",
    "GetPendingAccepted",
    "GetPendingRequest",
    "JobExecution",
    "Notify",
    "NotifyNext",
    "RejectedResponse",
    "StartNextRequest",
    "Status",
    "UpdateAccepted",
    "UpdateRequest",
    "Wire",
    "clean_details",
    "decode",
    "encode",
]

NO_DOCUMENT = msgspec.Raw()
"""Left out of what is written."""
MAX_DETAIL_KEY = 128
MAX_DETAIL_VALUE = 1024

_NO_KEY = re.compile(r"[^a-zA-Z0-9:_-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Status(enum.StrEnum):
    """The status of a job on one thing."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in {Status.QUEUED, Status.IN_PROGRESS}


class Code(enum.StrEnum):
    """Why the service rejects a request."""

    INVALID_TOPIC = "InvalidTopic"
    INVALID_JSON = "InvalidJson"
    INVALID_REQUEST = "InvalidRequest"
    INVALID_STATE_TRANSITION = "InvalidStateTransition"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    VERSION_MISMATCH = "VersionMismatch"
    INTERNAL_ERROR = "InternalError"
    REQUEST_THROTTLED = "RequestThrottled"
    TERMINAL_STATE_REACHED = "TerminalStateReached"


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The base of every payload: camel case, and a value that is the default is not sent."""


class ExecutionSummary(Wire, frozen=True, kw_only=True):
    """A job execution in a list."""

    job_id: str
    queued_at: float | None = None
    started_at: float | None = None
    last_updated_at: float | None = None
    version_number: int | None = None
    execution_number: int | None = None


class JobExecution(Wire, frozen=True, kw_only=True):
    """A job on one thing; times are seconds since the epoch."""

    job_id: str | None = None
    thing_name: str | None = None
    job_document: msgspec.Raw = NO_DOCUMENT
    status: Status | None = None
    status_details: dict[str, Any] | None = None
    queued_at: float | None = None
    started_at: float | None = None
    last_updated_at: float | None = None
    version_number: int | None = None
    execution_number: int | None = None
    approximate_seconds_before_timed_out: int | None = None


class ExecutionState(Wire, frozen=True, kw_only=True):
    """The part of an execution that an update changes."""

    status: Status | None = None
    status_details: dict[str, Any] | None = None
    version_number: int | None = None


class GetPendingRequest(Wire, frozen=True, kw_only=True):
    """Lists the executions that are not at their end."""

    client_token: str | None = None


class GetPendingAccepted(Wire, frozen=True, kw_only=True):
    """The executions that are not at their end."""

    in_progress_jobs: list[ExecutionSummary] | None = None
    queued_jobs: list[ExecutionSummary] | None = None
    timestamp: float | None = None
    client_token: str | None = None


class StartNextRequest(Wire, frozen=True, kw_only=True):
    """Begins the next job."""

    status_details: dict[str, str] | None = None
    step_timeout_in_minutes: float | None = None
    client_token: str | None = None


class DescribeRequest(Wire, frozen=True, kw_only=True):
    """Asks for one job."""

    execution_number: int | None = None
    include_job_document: bool | None = None
    """Absent: with the document."""
    client_token: str | None = None


class DescribeAccepted(Wire, frozen=True, kw_only=True):
    """A job, or none; the answer to start-next has this form too."""

    execution: JobExecution | None = None
    timestamp: float | None = None
    client_token: str | None = None


class UpdateRequest(Wire, frozen=True, kw_only=True):
    """Reports the status of a job."""

    status: str | None = None
    status_details: dict[str, str] | None = None
    expected_version: int | None = None
    execution_number: int | None = None
    include_job_execution_state: bool | None = None
    include_job_document: bool | None = None
    step_timeout_in_minutes: float | None = None
    client_token: str | None = None


class UpdateAccepted(Wire, frozen=True, kw_only=True):
    """An update was accepted."""

    execution_state: ExecutionState | None = None
    job_document: msgspec.Raw = NO_DOCUMENT
    timestamp: float | None = None
    client_token: str | None = None


class RejectedResponse(Wire, frozen=True, kw_only=True):
    """A request was rejected; ``execution_state`` comes with a version mismatch or an invalid transition."""

    code: str | None = None
    message: str | None = None
    client_token: str | None = None
    timestamp: float | None = None
    execution_state: ExecutionState | None = None


class Notify(Wire, frozen=True, kw_only=True):
    """The list of pending jobs changed: status → jobs; empty when nothing is pending."""

    timestamp: float | None = None
    jobs: dict[str, list[ExecutionSummary]] | None = None


class NotifyNext(Wire, frozen=True, kw_only=True):
    """Another job is next, or none."""

    timestamp: float | None = None
    execution: JobExecution | None = None


Payload = TypeVar("Payload", bound=Wire)


def decode(kind: type[Payload], payload: bytes) -> Payload:
    """Read a payload; an empty one is an empty object.  Raises ``msgspec.DecodeError`` or ``ValidationError``.

    >>> decode(UpdateRequest, b'{"status": "FAILED", "expectedVersion": 2.0, "unknown": null}').expected_version
    2
    """
    return msgspec.json.decode(payload or b"{}", type=kind, strict=False)


def encode(message: Wire) -> bytes:
    """Write a payload."""
    return msgspec.json.encode(message)


def clean_details(details: Mapping[str, str]) -> dict[str, str]:
    r"""Status details that the service takes: keys and values cut to their length, foreign characters replaced.

    >>> clean_details({"failure cause": "line 1\nline 2"})
    {'failure_cause': 'line 1 line 2'}
    """
    return {
        (_NO_KEY.sub("_", key)[:MAX_DETAIL_KEY] or "_"): _CONTROL.sub(" ", value)[:MAX_DETAIL_VALUE]
        for key, value in details.items()
    }
