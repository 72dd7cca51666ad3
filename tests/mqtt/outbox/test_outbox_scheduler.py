"""What the outbox sends next: ranks, shares, order, and memory that stays bounded.  A model of the store answers it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox import scheduler
from agent.mqtt.outbox.record import RANKS, SHIFT, Record, rank_of
from agent.mqtt.outbox.scheduler import Scheduler
from agent.mqtt.transport import Message

TOPICS = ("a", "b", "c")


class World:
    """A scheduler between a store that is a dictionary and a wire that is a list."""

    def __init__(self, **options: Any) -> None:
        self.options = OutboxOptions(**options)
        self.scheduler = Scheduler(self.options)
        self.store: dict[int, Record] = {}
        self.wire: list[Record] = []
        self.replayed: list[bool] = []
        self.loads: list[scheduler.Load] = []
        self.removes: list[int] = []
        self.number = 0
        self.full = False
        self.step(scheduler.Opened({}))

    def step(self, event: scheduler.Event) -> None:
        queue = [event]
        while queue:
            taken = True
            for effect in self.scheduler.step(queue.pop(0)):
                match effect:
                    case scheduler.Send(record, replayed):
                        taken = taken and not self.full
                        if taken:
                            self.wire.append(record)
                            self.replayed.append(replayed)
                        else:
                            queue.insert(0, scheduler.Bounced(record.seq))
                    case scheduler.Load():
                        self.loads.append(effect)
                    case scheduler.Remove(seq):
                        self.removes.append(seq)

    def publish(self, topic: str, count: int = 1, rank: int = 1) -> None:
        records = []
        for _ in range(count):
            self.number += 1
            seq = rank << SHIFT | self.number
            records.append(Record(seq, 0, Message(topic, b"%d" % self.number, 1), "", 500))
        self.store |= {record.seq: record for record in records}
        self.step(scheduler.Stored(records))

    def read(self) -> None:
        """The store answers what it was asked."""
        loads, self.loads = self.loads, []
        for load in loads:
            low, high = max(load.after + 1, load.rank << SHIFT), (load.rank + 1) << SHIFT
            found = sorted(seq for seq in self.store if low <= seq < high)
            chosen = [self.store[seq] for seq in found[: scheduler.READ_AHEAD]]
            self.step(scheduler.Loaded(load, chosen, len(chosen) < scheduler.READ_AHEAD))

    def remove(self) -> None:
        """What was acknowledged leaves the store."""
        removed, self.removes = self.removes, []
        for seq in removed:
            del self.store[seq]
        self.step(scheduler.Removed(removed))

    def acknowledge(self, count: int = 1) -> None:
        for seq in list(self.scheduler.handed_over)[:count]:
            self.step(scheduler.Ended(seq))

    def drain(self) -> None:
        self.full = False
        self.step(scheduler.Tick())
        self.step(scheduler.LinkChanged(up=True))
        for _ in range(10_000):
            self.read()
            self.remove()
            self.acknowledge(100)
            if not (self.store or self.scheduler.handed_over or self.loads or self.removes):
                return
        raise AssertionError(f"stuck with {len(self.store)} messages")

    def numbers(self, topic: str) -> list[int]:
        """What was seen on a topic, each at its first sight."""
        return list(dict.fromkeys(int(record.message.payload) for record in self.wire if record.message.topic == topic))


def up(**options: Any) -> World:
    world = World(**options)
    world.step(scheduler.LinkChanged(up=True))
    world.read()
    return world


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.integers(1, 300)),
        st.tuples(st.sampled_from(["up", "down", "read", "remove", "full", "room", "tick"])),
        st.tuples(st.just("acknowledge"), st.integers(1, 80)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, many=st.booleans())
def test_whatever_happens_everything_is_sent_in_the_order_of_its_topic_and_memory_is_bounded(steps, many):
    world = World()
    world.step(scheduler.Opened(None if many else {}))
    ranks = dict(zip(TOPICS, range(3), strict=True))
    for step in steps:
        match step:
            case ("publish", topic, count):
                world.publish(topic, count, ranks[topic])
            case ("up",) | ("down",):
                world.step(scheduler.LinkChanged(up=step[0] == "up"))
            case ("read",):
                world.read()
            case ("remove",):
                world.remove()
            case ("full",) | ("room",):
                world.full = step[0] == "full"
            case ("tick",):
                world.step(scheduler.Tick())
            case ("acknowledge", count):
                world.acknowledge(count)
        held = len(list(world.scheduler.held()))
        assert held <= 3 * (scheduler.LIVE_MESSAGES + 2 * scheduler.READ_AHEAD) + world.options.in_flight
        assert len(world.scheduler.handed_over) <= world.options.in_flight
    world.drain()
    for topic in TOPICS:
        assert world.numbers(topic) == sorted(world.numbers(topic))
    assert sum(len(world.numbers(topic)) for topic in TOPICS) == world.number


def test_nothing_is_sent_while_the_link_is_down():
    world = World()
    world.publish("a", 10)
    world.read()
    assert (world.wire, list(world.scheduler.held())) == ([], [])


def test_a_live_message_is_sent_from_memory():
    world = up()
    world.publish("a")
    assert [record.message.payload for record in world.wire] == [b"1"]
    assert (world.replayed, world.loads) == ([False], [])


def test_no_more_are_in_flight_than_may_be():
    world = up(in_flight=5)
    world.publish("a", 20)
    assert len(world.wire) == 5
    world.acknowledge(2)
    assert len(world.wire) == 7


def test_a_lower_rank_goes_first():
    world = World()
    for rank in (2, 1, 0):
        world.publish(RANKS[rank], 10, rank)
    world.drain()
    assert [rank_of(record.seq) for record in world.wire] == [0] * 10 + [1] * 10 + [2] * 10


@pytest.mark.parametrize("share", [1, 4])
def test_live_messages_of_other_topics_go_between_what_is_replayed(share: int):
    world = World(in_flight=1, live_per_replayed=share)
    world.publish("old", 1000)
    world.step(scheduler.LinkChanged(up=True))
    world.read()
    world.publish("new", 30)
    for _ in range(25):
        world.acknowledge()
    sent = world.replayed[1:26]
    assert sent.count(True) == 25 // (share + 1)
    assert world.replayed[0] is True  # it was under way before


def test_replay_goes_on_however_much_is_live():
    world = World(in_flight=1)
    world.publish("old", 100)
    world.step(scheduler.LinkChanged(up=True))
    for _ in range(100):
        world.publish("new", 2)
        world.acknowledge()
        world.read()
    assert world.replayed.count(True) >= 100 // 5 - 1


def test_a_live_message_waits_for_what_is_replayed_on_its_own_topic():
    world = World(in_flight=1)
    world.publish("a", 5)
    world.step(scheduler.LinkChanged(up=True))
    world.publish("a", 5)
    world.drain()
    assert [int(record.message.payload) for record in world.wire] == list(range(1, 11))


def test_live_first_lets_it_go_before_that():
    world = World(in_flight=1, order="live-first", live_per_replayed=100)
    world.publish("a", 5)
    world.step(scheduler.LinkChanged(up=True))
    world.publish("a", 5)
    world.drain()
    assert [int(record.message.payload) for record in world.wire] == [6, 7, 8, 9, 10, 1, 2, 3, 4, 5]


def test_more_than_may_be_live_waits_on_disk_and_goes_on_in_order():
    world = up()
    world.publish("a", scheduler.LIVE_MESSAGES + 100)
    assert len(list(world.scheduler.held())) <= world.options.in_flight
    world.drain()
    assert world.numbers("a") == list(range(1, scheduler.LIVE_MESSAGES + 101))
    assert len(world.wire) == scheduler.LIVE_MESSAGES + 100


def test_what_was_acknowledged_is_not_read_again_before_it_is_removed():
    world = up()
    world.publish("a", 10)
    world.acknowledge(10)
    world.step(scheduler.LinkChanged(up=False))
    world.step(scheduler.LinkChanged(up=True))
    world.read()
    assert len(world.wire) == 10


def test_what_the_transport_gave_back_is_sent_again_before_what_came_after_it():
    world = up(in_flight=3)
    world.full = True
    world.publish("a", 3)
    assert (world.wire, world.scheduler.handed_over) == ([], {})
    world.full = False
    world.step(scheduler.Tick())
    world.read()
    assert world.numbers("a") == [1, 2, 3]


def test_a_topic_is_live_again_once_it_has_nothing_on_disk():
    world = World()
    world.publish("a", 300)
    world.drain()
    world.publish("a")
    assert world.replayed[-1] is False


def test_more_topics_than_are_counted_are_all_taken_to_wait():
    world = World()
    for number in range(scheduler.TOPICS + 1):
        world.publish(f"t{number}")
    world.step(scheduler.LinkChanged(up=True))
    world.publish("new")
    assert world.wire == []
    world.drain()
    world.publish("new")
    assert world.replayed[-1] is False


def test_who_leaves_sends_what_is_live_and_of_the_first_rank_only():
    world = World()
    world.publish("results", 200)
    world.publish("status", 3, rank=0)
    world.step(scheduler.Leaving())
    world.step(scheduler.LinkChanged(up=True))
    for _ in range(5):
        world.read()
        world.acknowledge(100)
    sent = defaultdict(int)
    for record in world.wire:
        sent[record.message.topic] += 1
    assert sent == {"status": 3}
    assert world.scheduler.idle


def test_a_failed_reading_is_tried_again_with_the_next_tick():
    world = World()
    world.publish("a", 3)
    world.step(scheduler.LinkChanged(up=True))
    (load,) = [load for load in world.loads if load.rank == 1]
    world.loads.clear()
    world.step(scheduler.Loaded(load, None, exhausted=False))
    assert world.loads == []
    world.drain()
    assert world.numbers("a") == [1, 2, 3]
