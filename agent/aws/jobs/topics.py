"""The topics of AWS IoT Jobs and of the deployment shadow: built by a device, those of Jobs read by the service.

Everything lies under ``<prefix>/things/<thing>/jobs``.  The prefix is ``$aws`` wherever a broker carries such topics
between plain clients, and a name like ``verge/aws`` where it refuses a leading ``$``.  Jobs of a namespace are seen
on that namespace's topics only; Greengrass deployments live in ``aws-gg-deployment``.  A result comes on the
request's topic with ``/accepted`` or ``/rejected`` added.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

__all__ = [
    "GREENGRASS",
    "NEXT",
    "PREFIX",
    "JobOperation",
    "JobTopics",
    "RequestTopic",
    "ShadowTopics",
    "read_request",
    "request_filters",
]

PREFIX = "$aws"
GREENGRASS = "aws-gg-deployment"
SHADOW = "AWSManagedGreengrassV2Deployment"
NEXT = "$next"
"""Stands for the job that is to be done next."""


class JobOperation(enum.StrEnum):
    """The requests that a device can make."""

    GET_PENDING = "get-pending"
    START_NEXT = "start-next"
    DESCRIBE = "get"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class JobTopics:
    """One thing's topics in one namespace; the empty namespace is the plain one.

    >>> JobTopics("line-3").describe_next
    '$aws/things/line-3/jobs/$next/get'
    >>> JobTopics("line-3", namespace=GREENGRASS).update("j1")
    '$aws/things/line-3/jobs/j1/namespace-aws-gg-deployment/update'
    >>> JobTopics("line-3", "verge/aws", GREENGRASS).notify_next
    'verge/aws/things/line-3/jobs/notify-next-namespace-aws-gg-deployment'
    """

    thing: str
    prefix: str = PREFIX
    namespace: str = ""

    @property
    def base(self) -> str:
        """What every topic begins with."""
        return f"{self.prefix}/things/{self.thing}/jobs"

    @property
    def start_next(self) -> str:
        """Where the next job is asked for and begun; the plain namespace only."""
        return f"{self.base}/start-next"

    @property
    def describe_next(self) -> str:
        """Where the next job is asked for."""
        return self._of(NEXT, "get")

    @property
    def notify(self) -> str:
        """Where the service notifies of a changed list of pending jobs."""
        return f"{self.base}/notify{self._suffix}"

    @property
    def notify_next(self) -> str:
        """Where the service notifies of another job that is next."""
        return f"{self.base}/notify-next{self._suffix}"

    @property
    def pending(self) -> str:
        """Where the pending jobs are asked for; the plain namespace only."""
        return f"{self.base}/get"

    def describe(self, job_id: str) -> str:
        """Where a job is asked for; ``+`` for any job, in a filter."""
        return self._of(job_id, "get")

    def update(self, job_id: str) -> str:
        """Where the status of a job is reported; ``+`` for any job, in a filter."""
        return self._of(job_id, "update")

    @property
    def filters(self) -> tuple[str, ...]:
        """Every filter that a device needs; answers are recognised by their tokens."""
        plain = () if self.namespace else (f"{self.start_next}/+", f"{self.pending}/+")
        return (*plain, f"{self.describe('+')}/+", f"{self.update('+')}/+", self.notify, self.notify_next)

    @property
    def _suffix(self) -> str:
        return f"-namespace-{self.namespace}" if self.namespace else ""

    def _of(self, job_id: str, verb: str) -> str:
        return "/".join((self.base, job_id, *([f"namespace-{self.namespace}"] if self.namespace else []), verb))


@dataclass(frozen=True, slots=True)
class ShadowTopics:
    """One thing's topics of the deployment shadow.

    >>> ShadowTopics("line-3").get
    '$aws/things/line-3/shadow/name/AWSManagedGreengrassV2Deployment/get'
    """

    thing: str
    prefix: str = PREFIX

    @property
    def base(self) -> str:
        """What every topic begins with."""
        return f"{self.prefix}/things/{self.thing}/shadow/name/{SHADOW}"

    @property
    def get(self) -> str:
        """Where the whole shadow is asked for."""
        return f"{self.base}/get"

    @property
    def update(self) -> str:
        """Where the shadow is changed."""
        return f"{self.base}/update"

    @property
    def filters(self) -> tuple[str, ...]:
        """Every filter that a device needs."""
        return f"{self.get}/+", f"{self.update}/+"


@dataclass(frozen=True, slots=True)
class RequestTopic:
    """The parts of a request's topic; ``operation`` is None where the topic maps to none."""

    thing: str
    operation: JobOperation | None
    job_id: str = ""
    namespace: str = ""


_REQUEST = re.compile(r"/things/([^/]+)/jobs/(?:(get|start-next)|([^/]+)/(?:([^/]+)/)?(get|update))")
_NAMESPACE = "namespace-"


def request_filters(prefix: str) -> tuple[str, ...]:
    """Filters that every request of every thing falls under, and no answer does."""
    tails = ("get", "start-next", "+/get", "+/update", "+/+/get", "+/+/update")
    return tuple(f"{prefix}/things/+/jobs/{tail}" for tail in tails)


def read_request(prefix: str, topic: str) -> RequestTopic | None:
    """The request that is made on ``topic``; None when it is none under ``prefix``.

    >>> read_request("$aws", "$aws/things/line-3/jobs/j1/namespace-n/update")
    RequestTopic(thing='line-3', operation=<JobOperation.UPDATE: 'update'>, job_id='j1', namespace='n')
    """
    match = _REQUEST.fullmatch(topic.removeprefix(prefix))
    if not topic.startswith(f"{prefix}/") or match is None:
        return None
    thing, whole, job_id, level, verb = match.groups()
    if whole:
        return RequestTopic(thing, JobOperation.GET_PENDING if whole == "get" else JobOperation.START_NEXT)
    namespace = (level or "").removeprefix(_NAMESPACE)
    if level is not None and (namespace == level or not namespace):
        return RequestTopic(thing, None, job_id)
    return RequestTopic(thing, JobOperation(verb), job_id, namespace)
