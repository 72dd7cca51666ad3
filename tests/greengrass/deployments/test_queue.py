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
    Fate,
    Interrupt,
    Queue,
    Rejected,
    Waits,
    behind,
    covers,
    fate,
    step,
)
from agent.greengrass.deployments.request import ComponentRequest, Deployment, Origin
from agent.greengrass.recipes.versions import Requirement

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
    assert effects[1:] == [Dropped(old, DropReason.SUPERSEDED, "s2")]
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


def test_a_full_queue_rejects_with_the_reason() -> None:
    _, effects = play(*(Arrived(asked(str(number))) for number in range(MAX_WAITING + 2)))
    (rejected,) = effects[1:]
    assert rejected.deployment.id == str(MAX_WAITING + 1)
    assert "THROTTLING_ERROR" in rejected.outcome.stack


# -- overtaking -----------------------------------------------------------------------------------------------

ANY = Requirement.parse("*")


def adding(id_: str, *names: str, remove: tuple[str, ...] = (), **request) -> Deployment:
    components = {name: ComponentRequest(ANY, **request) for name in names}
    return Deployment(id_, Origin.TOPIC, "g", 1, components=components, additive=True, remove=remove)


def test_a_newer_shadow_takes_the_place_of_the_one_that_runs_and_has_changed_nothing() -> None:
    old, new = asked("s1", source=Origin.SHADOW), asked("s2", source=Origin.SHADOW)
    queue, effects = play(Arrived(old), Arrived(new))
    assert effects == [Begin(old), Interrupt(old)]
    assert queue.running is not None
    assert queue.running.superseded_by == "s2"
    assert play(Ended("s1", None), queue=queue)[1] == [Begin(new)]
    assert play(Arrived(old), Activating("s1"), Arrived(new))[1] == [Begin(old)]


def test_what_waits_for_something_is_overtaken_by_what_covers_it_whichever_comes_first() -> None:
    old, new = asked("1"), asked("2")
    for events in ((Arrived(old), Waits("1"), Arrived(new)), (Arrived(old), Arrived(new), Waits("1"))):
        assert play(*events)[1] == [Begin(old), Interrupt(old)]


def test_what_goes_on_or_has_changed_something_is_not_overtaken() -> None:
    old, new = asked("1"), asked("2")
    assert play(Arrived(old), Waits("1"), Waits("1", waits=False), Arrived(new))[1] == [Begin(old)]
    assert play(Arrived(old), Waits("1"), Activating("1"), Arrived(new))[1] == [Begin(old)]


def test_a_deployment_that_changes_something_may_wait_and_is_not_overtaken() -> None:
    old, new = asked("1"), asked("2")
    assert play(Arrived(old), Activating("1"), Arrived(new), Waits("1"))[1] == [Begin(old)]


def test_another_group_overtakes_nothing() -> None:
    old = asked("1")
    assert play(Arrived(old), Waits("1"), Arrived(asked("2", group="h")))[1] == [Begin(old)]


def test_an_addition_is_lost_to_no_other_addition() -> None:
    assert covers(adding("2", "x"), adding("1", "x"))
    assert not covers(adding("2", "y"), adding("1", "x"))
    assert not covers(adding("2", "x"), adding("1", "x", "y"))
    assert not covers(adding("2", "x"), adding("1", "x", remove=("y",)))
    assert covers(adding("2", remove=("x",)), adding("1", "x"))
    assert not covers(adding("2", "x"), asked("1"))
    assert covers(asked("2"), adding("1", "x"))


def test_an_addition_that_configures_is_covered_by_one_that_writes_the_same_keys() -> None:
    old = adding("1", "x", merge={"a": {"b": 1}})
    assert covers(adding("2", "x", merge={"a": {"b": 2}, "c": 3}), old)
    assert not covers(adding("2", "x", merge={"a": {"d": 2}}), old)
    assert not covers(adding("2", "x"), old)


def test_a_rollback_neither_overtakes_nor_is_overtaken() -> None:
    back = Deployment("back", Origin.TOPIC, "g", 9, rollback=True)
    assert not covers(back, asked("1"))
    assert not covers(asked("1", at=10), back)


def test_where_a_deployment_is_decides_what_a_cancellation_comes_to() -> None:
    queue, _ = play(Arrived(asked("1")), Arrived(asked("2")))
    assert [fate(queue, id_) for id_ in "123"] == [Fate.STOPPABLE, Fate.WAITING, Fate.UNKNOWN]
    queue, _ = play(Activating("1"), queue=queue)
    assert fate(queue, "1") is Fate.TOO_LATE


def test_what_waits_knows_who_is_before_it() -> None:
    queue, _ = play(*(Arrived(asked(id_)) for id_ in "123"))
    assert behind(queue) == {"2": ("1",), "3": ("1", "2")}


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
    | st.builds(Waits, IDS, st.booleans())
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
