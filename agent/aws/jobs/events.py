"""What the Jobs conversation is about, what it hears and what it wants done: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agent.aws.jobs.messages import JobExecution, Status

__all__ = [
    "Accepted",
    "Ask",
    "Cancel",
    "Connected",
    "Disconnected",
    "Effect",
    "Event",
    "Finished",
    "Job",
    "Notified",
    "Progress",
    "Rejected",
    "Report",
    "Start",
    "Tick",
    "Told",
    "Update",
]


@dataclass(frozen=True, slots=True)
class Job:
    """A run of a job on this thing; ``document`` is its JSON text."""

    job_id: str
    execution_number: int
    queued_at: float
    document: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A status that waits to be told."""

    status: Status
    details: tuple[tuple[str, str], ...] = ()


# -- events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker is there, and subscriptions are in force."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The broker is not there."""


@dataclass(frozen=True, slots=True)
class Notified:
    """The service tells that something changed; ``pending`` are the runs it names: job id and execution number."""

    pending: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a question: the next job, or none."""

    token: str
    execution: JobExecution | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update was taken; ``version`` is the new one where the answer tells it."""

    token: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A request was not taken."""

    token: str
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """The owner tells how its job goes on."""

    job: Job
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The owner is done with its job, also after a cancellation."""

    job: Job
    status: Status
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: ``due`` told when."""


Event: TypeAlias = Connected | Disconnected | Notified | Told | Accepted | Rejected | Progress | Finished | Tick


# -- effects --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask which job is next; ``begin``: and begin it."""

    token: str
    begin: bool


@dataclass(frozen=True, slots=True)
class Update:
    """Tell the service how the job stands."""

    token: str
    job: Job
    report: Report
    expected_version: int


@dataclass(frozen=True, slots=True)
class Start:
    """Hand the job to its owner, who answers with ``Finished``.

    A job that was in progress when the agent went away is handed out again; the owner knows whether it is done.
    """

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job is gone at the service: its owner is to stop it if it still can, and answers with ``Finished``."""

    job: Job


Effect: TypeAlias = Ask | Update | Start | Cancel
