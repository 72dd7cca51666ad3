"""Jobs, their settings and their executions as frozen values, in the words of AWS IoT's CreateJob.

Times are seconds since the epoch, as floats, so that what was queued first stays first.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from agent.aws.jobs.messages import Code, Status
from agent.errors import InvalidInputError

__all__ = [
    "AbortConfig",
    "AbortCriteria",
    "Execution",
    "ExponentialRate",
    "JobError",
    "JobRecord",
    "JobSpec",
    "JobStatus",
    "ManagementCode",
    "RateIncreaseCriteria",
    "RetryConfig",
    "RetryCriteria",
    "RolloutConfig",
    "TimeoutConfig",
    "check_names",
    "group_of",
]

MAX_DOCUMENT = 32_768
_JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9:_.-]{1,128}")
_ARN = re.compile(r"arn:[^:]*:iot:[^:]*:[^:]*:(thing|thinggroup)/(.+)")

Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=100)]
Minutes = Annotated[float, msgspec.Meta(gt=0, le=10_080)]
FailureType = Literal["FAILED", "REJECTED", "TIMED_OUT", "ALL"]


class ManagementCode(enum.StrEnum):
    """Codes of errors that only operators get; devices get those of ``Code``."""

    ALREADY_EXISTS = "ResourceAlreadyExists"


class JobError(InvalidInputError):
    """A request to the Jobs service cannot be done; ``execution`` where its state is the reason."""

    default_code = Code.INVALID_REQUEST

    def __init__(
        self,
        message: str,
        *,
        code: str = Code.INVALID_REQUEST,
        hint: str | None = None,
        execution: Execution | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.execution = execution


class JobStatus(enum.StrEnum):
    """The status of a job as a whole."""

    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Camel case, nothing unknown, and defaults are left out."""


class RateIncreaseCriteria(_Value, frozen=True, kw_only=True):
    """When the rate grows: each time so many more things were notified, or succeeded."""

    number_of_notified_things: Positive | None = None
    number_of_succeeded_things: Positive | None = None


class ExponentialRate(_Value, frozen=True, kw_only=True):
    """A rate that begins low and is multiplied each time a criterion is met."""

    base_rate_per_minute: Positive
    increment_factor: Annotated[float, msgspec.Meta(ge=1.0, le=100)]
    rate_increase_criteria: RateIncreaseCriteria


class RolloutConfig(_Value, frozen=True, kw_only=True):
    """How many things are notified in any minute."""

    maximum_per_minute: Positive | None = None
    exponential_rate: ExponentialRate | None = None


class AbortCriteria(_Value, frozen=True, kw_only=True):
    """Cancel the job when so many per cent of the things that are done failed in this way."""

    failure_type: FailureType
    action: Literal["CANCEL"] = "CANCEL"
    threshold_percentage: Share
    min_number_of_executed_things: Positive = 1


class AbortConfig(_Value, frozen=True, kw_only=True):
    """Any of these criteria ends the job."""

    criteria_list: tuple[AbortCriteria, ...] = ()


class TimeoutConfig(_Value, frozen=True, kw_only=True):
    """How long an execution may be in progress; fractions of a minute are taken."""

    in_progress_timeout_in_minutes: Minutes | None = None


class RetryCriteria(_Value, frozen=True, kw_only=True):
    """How often an execution that failed in this way is queued again."""

    failure_type: Literal["FAILED", "TIMED_OUT", "ALL"]
    number_of_retries: Annotated[int, msgspec.Meta(ge=0, le=10)]


class RetryConfig(_Value, frozen=True, kw_only=True):
    """The retries of an execution."""

    criteria_list: tuple[RetryCriteria, ...] = ()


class JobSpec(_Value, frozen=True, kw_only=True):
    """The request that creates a job.

    ``targets`` are things and, as ``group:NAME``, groups; ARNs of things and thing groups are taken too.
    ``document`` is a JSON object, or a string that holds one.
    """

    job_id: str
    targets: tuple[str, ...]
    document: msgspec.Raw
    description: str = ""
    namespace_id: str = ""
    target_selection: Literal["SNAPSHOT", "CONTINUOUS"] = "SNAPSHOT"
    job_executions_rollout_config: RolloutConfig = RolloutConfig()
    abort_config: AbortConfig = AbortConfig()
    timeout_config: TimeoutConfig = TimeoutConfig()
    job_executions_retry_config: RetryConfig = RetryConfig()

    def checked(self) -> JobSpec:
        """The same in its plain form; raises ``JobError`` for what cannot be a job."""
        if not _JOB_ID.fullmatch(self.job_id):
            raise JobError(f"{self.job_id!r} is no job id", hint="1 to 64 letters, digits, _ and -")
        if self.namespace_id and not _JOB_ID.fullmatch(self.namespace_id):
            raise JobError(f"{self.namespace_id!r} is no namespace", hint="1 to 64 letters, digits, _ and -")
        if not self.targets:
            raise JobError("a job needs a target", hint="name things, or groups as group:NAME")
        targets = tuple(dict.fromkeys(map(_target, self.targets)))
        check_names(target if (group := group_of(target)) is None else group for target in targets)
        return msgspec.structs.replace(self, targets=targets, document=_document(self.document))


class JobRecord(_Value, frozen=True, kw_only=True):
    """A job as a whole; ``things`` are those a snapshot took, a continuous job follows its groups."""

    spec: JobSpec
    status: JobStatus
    things: tuple[str, ...] = ()
    created_at: float
    last_updated_at: float
    completed_at: float | None = None
    reason_code: str | None = None

    @property
    def continuous(self) -> bool:
        """Whether things that join a target group later get the job too."""
        return self.spec.target_selection == "CONTINUOUS"


class Execution(_Value, frozen=True, kw_only=True):
    """One run of a job on one thing; ``sequence`` orders what was queued at the same time."""

    job_id: str
    thing: str
    number: int
    status: Status
    version: int
    details: dict[str, str] = {}
    queued_at: float
    sequence: int
    started_at: float | None = None
    last_updated_at: float
    times_out_at: float | None = None
    step_times_out_at: float | None = None

    @property
    def due(self) -> float | None:
        """When it times out, whichever timer ends first."""
        timers = [when for when in (self.times_out_at, self.step_times_out_at) if when is not None]
        return None if self.status is not Status.IN_PROGRESS else min(timers, default=None)

    @property
    def order(self) -> tuple[bool, float, int]:
        """What is in progress first, then what was queued first."""
        return self.status is not Status.IN_PROGRESS, self.queued_at, self.sequence


def group_of(target: str) -> str | None:
    """The group that a target names; None where it names a thing."""
    return target.removeprefix("group:") if target.startswith("group:") else None


def check_names(names: Iterable[str]) -> None:
    """Raise ``JobError`` for what is no name of a thing or group."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise JobError(
                f"{name!r} is no name of a thing or group", hint="1 to 128 letters, digits and any of : _ . -"
            )


def _target(target: str) -> str:
    arn = _ARN.fullmatch(target)
    if arn is None:
        return target
    return arn[2] if arn[1] == "thing" else f"group:{arn[2]}"


def _document(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        content = msgspec.json.decode(raw)
        text = content.encode() if isinstance(content, str) else bytes(raw)
        if not isinstance(msgspec.json.decode(text), dict):
            raise JobError("the document is no JSON object")
    except (msgspec.DecodeError, UnicodeError) as error:
        raise JobError(f"the document is no JSON: {error}", code=Code.INVALID_JSON) from error
    if len(text.decode()) > MAX_DOCUMENT:
        raise JobError(
            f"the document has {len(text.decode())} characters; {MAX_DOCUMENT} are allowed",
            hint="put what is large into artifacts",
        )
    return msgspec.Raw(text)
