"""The queue of deployments: one at a time, each ends once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.deployments.outcome import DetailedStatus, Outcome
from agent.greengrass.deployments.queue import (
    MAX_WAITING,
    Activating,
    Arrived,
    Begin,
    Cancelled,
    Dropped,
    DropReason,
    Ended,
    Interrupt,
    Queue,
    Rejected,
    step,
)
from agent.greengrass.deployments.request import Deployment, Origin

DONE = Outcome(DetailedStatus.SUCCESSFUL)
BACK = Outcome(DetailedStatus.FAILED_ROLLBACK_COMPLETE, "no")


def asked(id_: str, *, source: Origin = Origin.JOB, group: str = "g", at: int = 1) -> Deployment:
    return Deployment(id=id_, source=source, group=group, timestamp_ms=at)


def play(*events, queue: Queue | None = None):
    queue = queue or Queue()
    effects = []
    for event in events:
        queue, done = step(queue, event)
        effects += done
    return queue, effects


def test_deployments_run_one_after_the_other_in_the_order_they_came() -> None:
    one, two = asked("1"), asked("2")
    queue, effects = play(Arrived(one), Arrived(two))
    assert effects == [Begin(one)]
    assert queue.waiting == (two,)
    assert play(Ended("1", DONE), queue=queue)[1] == [Begin(two)]


def test_an_id_that_waits_or_runs_is_not_taken_twice() -> None:
    one, two = asked("1"), asked("2")
    queue, effects = play(Arrived(one), Arrived(two), Arrived(asked("1", at=9)), Arrived(asked("2", at=9)))
    assert effects == [Begin(one)]
    assert queue.waiting == (two,)


def test_an_id_that_has_ended_may_come_again() -> None:
    one = asked("1")
    assert play(Arrived(one), Ended("1", BACK), Arrived(one))[1] == [Begin(one), Begin(one)]


def test_a_newer_shadow_takes_the_place_of_the_one_that_waits() -> None:
    old, job, new = asked("s1", source=Origin.SHADOW), asked("2"), asked("s2", source=Origin.SHADOW)
    queue, effects = play(Arrived(asked("1")), Arrived(old), Arrived(job), Arrived(new))
    assert effects[1:] == [Dropped(old, DropReason.SUPERSEDED)]
    assert queue.waiting == (new, job)


def test_a_cancelled_deployment_leaves_the_queue() -> None:
    two = asked("2")
    queue, effects = play(Arrived(asked("1")), Arrived(two), Cancelled("2"), Cancelled("3"))
    assert effects[1:] == [Dropped(two, DropReason.CANCELED)]
    assert queue.waiting == ()


def test_a_running_deployment_is_interrupted_before_it_changes_anything() -> None:
    one, two = asked("1"), asked("2")
    queue, effects = play(Arrived(one), Arrived(two), Cancelled("1"), Cancelled("1"))
    assert effects == [Begin(one), Interrupt(one)]
    assert play(Activating("1"), queue=queue)[1] == [Interrupt(one)]
    assert play(Ended("1", None), queue=queue)[1] == [Begin(two)]


def test_after_that_a_cancellation_comes_too_late() -> None:
    one = asked("1")
    queue, effects = play(Arrived(one), Activating("1"), Cancelled("1"))
    assert effects == [Begin(one)]
    assert queue.running is not None
    assert not queue.running.cancelled


def test_a_job_older_than_the_last_deployment_of_its_group_is_rejected_when_its_turn_comes() -> None:
    new, old, other = asked("new", at=10), asked("old", at=9), asked("other", group="h", at=9)
    queue, _ = play(Arrived(new), Arrived(old), Arrived(other))
    _, effects = play(Ended("new", DONE), queue=queue)
    assert isinstance(effects[0], Rejected)
    assert (effects[0].deployment, effects[0].outcome.status) == (old, DetailedStatus.REJECTED)
    assert effects[0].outcome.stack == ("DEPLOYMENT_REJECTED", "REJECTED_STALE_DEPLOYMENT")
    assert effects[1:] == [Begin(other)]


def test_what_was_rolled_back_makes_nothing_stale_and_neither_does_the_same_revision() -> None:
    queue, _ = play(Arrived(asked("new", at=10)), Ended("new", BACK))
    old = asked("old", at=9)
    assert play(Arrived(old), queue=queue)[1] == [Begin(old)]
    queue, _ = play(Arrived(asked("new", at=10)), Ended("new", DONE))
    again = asked("again", at=10)
    assert play(Arrived(again), queue=queue)[1] == [Begin(again)]


def test_only_jobs_can_be_stale() -> None:
    queue = Queue(last_ms={"g": 10})
    for source in (Origin.SHADOW, Origin.TOPIC, Origin.LOCAL):
        late = asked("late", source=source)
        assert play(Arrived(late), queue=queue)[1] == [Begin(late)]


def test_a_full_queue_rejects_with_the_reason() -> None:
    _, effects = play(*(Arrived(asked(str(number))) for number in range(MAX_WAITING + 2)))
    (rejected,) = effects[1:]
    assert rejected.deployment.id == str(MAX_WAITING + 1)
    assert "THROTTLING_ERROR" in rejected.outcome.stack


# -- laws -----------------------------------------------------------------------------------------------------

IDS = st.sampled_from("abcde")
EVENTS = st.lists(
    st.builds(
        lambda id_, source, group, at: Arrived(asked(id_, source=source, group=group, at=at)),
        IDS,
        st.sampled_from(Origin),
        st.sampled_from("gh"),
        st.integers(0, 5),
    )
    | st.builds(Cancelled, IDS)
    | st.builds(Activating, IDS)
    | st.builds(Ended, IDS, st.sampled_from([DONE, BACK, None])),
    max_size=40,
)


class Runner:
    """Does what the effects say, and objects to what they must not."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.running: Deployment | None = None
        self.activating = False
        self.accepted: list[int] = []
        self.ends: Counter[int] = Counter()

    def hear(self, event) -> None:
        if isinstance(event, Arrived) and event.deployment.id not in ids(self.queue):
            self.accepted.append(id(event.deployment))
        self.queue, effects = step(self.queue, event)
        if self.running is not None and getattr(event, "id", None) == self.running.id:
            self.moved(event, allowed=not effects)
        for effect in effects:
            self.obey(effect)
        assert (self.queue.running.deployment if self.queue.running else None) is self.running

    def moved(self, event, *, allowed: bool) -> None:
        if isinstance(event, Ended):
            self.ends[id(self.running)] += 1
            self.running = None
        elif isinstance(event, Activating):
            self.activating = self.activating or allowed

    def obey(self, effect) -> None:
        match effect:
            case Begin(deployment):
                assert self.running is None
                self.running, self.activating = deployment, False
            case Interrupt(deployment):
                assert deployment is self.running
                assert not self.activating
            case Rejected(deployment) | Dropped(deployment):
                self.ends[id(deployment)] += 1


def ids(queue: Queue) -> list[str]:
    return [each.id for each in queue.waiting] + ([queue.running.deployment.id] if queue.running else [])


@settings(max_examples=150)
@given(EVENTS)
def test_never_two_run_and_every_accepted_deployment_reaches_exactly_one_end(events) -> None:
    runner = Runner()
    for event in events:
        runner.hear(event)
    while runner.running:
        runner.hear(Ended(runner.running.id, DONE))
    assert runner.ends == Counter(runner.accepted)


@settings(max_examples=100)
@given(EVENTS)
def test_nothing_waits_while_nothing_runs(events) -> None:
    queue, _ = play(*events)
    assert queue.running or not queue.waiting
    assert len(ids(queue)) == len(set(ids(queue)))
    assert sum(each.source is Origin.SHADOW for each in queue.waiting) <= 1
