"""Both ends of the Jobs conversation with an imaginary wire between: every message waits until it is delivered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from agent.aws.jobs.codec import JobCodec
from agent.aws.jobs.execution import (
    Cancel,
    Conversation,
    DescribeJob,
    DescribeNext,
    Event,
    Job,
    JobFinished,
    JobProgress,
    ListPending,
    Start,
    Update,
    due,
    step,
)
from agent.aws.jobs.messages import Status
from agent.aws.jobs.retry import Connected, Disconnected, Pace, Tick
from agent.aws.jobs.service.conversation import Outgoing, answer, notifications
from agent.aws.jobs.service.job import JobSpec
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.topics import PREFIX, JobTopics
from agent.topics import matches

DOCUMENT = {"deploymentId": "d1", "components": {}}


def spec(job_id: str, *targets: str, document: object = DOCUMENT, **options: object) -> JobSpec:
    """What a creator says, built as the service reads it; options in AWS's camel case."""
    told = {"jobId": job_id, "targets": targets, "document": document, **options}
    return msgspec.json.decode(msgspec.json.encode(told), type=JobSpec)


@dataclass
class Device:
    """A thing's end: the machine, and an owner who does what it is told when the test says so."""

    topics: JobTopics
    wire: list[Outgoing]
    wants: Callable[[Job], bool] | None = None
    state: Conversation = field(init=False)
    running: Job | None = None
    cancelled: bool = False
    started: list[Job] = field(default_factory=list)
    sessions = itertools.count()

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin as a new process that remembers nothing."""
        pace = Pace(first_s=10, backoff_s=1, cap_s=60, refresh_s=300)
        begins = not self.topics.namespace and self.wants is None
        self.state = Conversation(f"s{next(self.sessions)}", pace, begins=begins, wants=self.wants)
        self.running, self.cancelled = None, False

    def step(self, event: Event, now: float) -> None:
        self.state, effects = step(self.state, event, now)
        for effect in effects:
            match effect:
                case DescribeNext() | DescribeJob() | ListPending() | Update():
                    self.wire.append(Outgoing(*JobCodec(self.topics).message(effect)))
                case Start(job):
                    assert self.running is None, "two jobs at once"
                    self.running = job
                    self.started.append(job)
                case Cancel(job):
                    assert self.running == job, "a job is cancelled that does not run"
                    self.cancelled = True

    def message(self, message: Outgoing, now: float) -> None:
        if self.state.connected and (event := JobCodec(self.topics).event(message.topic, message.payload)):
            self.step(event, now)

    def finish(self, status: Status, now: float, **details: str) -> None:
        job, self.running, self.cancelled = self.running, None, False
        assert job is not None
        self.step(JobFinished(job, status, tuple(details.items())), now)

    def progress(self, now: float, **details: str) -> None:
        assert self.running is not None
        self.step(JobProgress(self.running, tuple(details.items())), now)

    def tick(self, now: float) -> None:
        when = due(self.state)
        if when is not None and when <= now:
            self.step(Tick(), now)


class Fleet:
    """A service, devices, and what is on its way between them."""

    def __init__(self, *topics: JobTopics, wants: Sequence[Callable[[Job], bool] | None] = ()) -> None:
        self.now = 1000.0
        self.queue = JobQueue()
        self.to_service: list[Outgoing] = []
        self.to_devices: list[Outgoing] = []
        wanted = wants or [None] * len(topics)
        self.devices = [Device(each, self.to_service, want) for each, want in zip(topics, wanted, strict=True)]

    def connect(self) -> None:
        for device in self.devices:
            device.step(Connected(), self.now)

    def disconnect(self) -> None:
        for device in self.devices:
            device.step(Disconnected(), self.now)

    def serve(self, message: Outgoing) -> None:
        """The service hears a request and answers."""
        answered = answer(self.queue, PREFIX, message.topic, message.payload, self.now)
        assert answered is not None, message.topic
        self.to_devices.append(answered)
        self.tell()

    def tell(self) -> None:
        """The service notifies whom it has to."""
        for notice in self.queue.repository.take_notices():
            self.to_devices += notifications(self.queue, PREFIX, notice, self.now)

    def hand_over(self, message: Outgoing) -> None:
        """A message reaches the devices that subscribed to it."""
        for device in self.devices:
            if any(matches(topic_filter, message.topic) for topic_filter in device.topics.filters):
                device.message(message, self.now)

    def settle(self) -> None:
        """Deliver everything that is on its way, and what comes of it, in order."""
        self.tell()
        while self.to_service or self.to_devices:
            if self.to_service:
                self.serve(self.to_service.pop(0))
            else:
                self.hand_over(self.to_devices.pop(0))

    def wait(self, seconds: float) -> None:
        """Let time pass on both ends."""
        self.now += seconds
        self.queue.tick(self.now)
        self.tell()
        for device in self.devices:
            device.tick(self.now)

    def statuses(self, job_id: str) -> list[tuple[str, int, str]]:
        """Thing, execution number and status of every execution of a job."""
        run = self.queue.repository.runs[job_id]
        return [(one.thing, one.number, one.status.value) for history in run.executions.values() for one in history]
