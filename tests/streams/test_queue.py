"""What waits, what gives way and whose turn it is: the laws of the camera queues."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.streams import Policy
from agent.frames.frame import Frame, Picture
from agent.streams.queue import QUEUE_FULL, SUPERSEDED, TOO_MANY_CAMERAS, TOO_OLD, CameraQueues

PICTURE = Picture(b"", "jpeg", 1, 1)


def frame(camera: str = "a", sequence: int = 0, arrived: float = 0.0) -> Frame:
    return Frame("line", camera, f"cameras/{camera}", sequence, PICTURE, 0.0, arrived)


def taken(queues: CameraQueues, now: float = 0.0) -> list[tuple[str, int]]:
    found = []
    while (one := queues.take(now)[0]) is not None:
        found.append((one.camera, one.sequence))
    return found


def test_latest_keeps_only_the_newest_frame_of_a_camera() -> None:
    queues = CameraQueues(Policy.LATEST)
    drops = [queues.put(frame(sequence=number)) for number in range(3)]
    assert [(drop.frame.sequence, drop.reason) for drop in drops if drop] == [(0, SUPERSEDED), (1, SUPERSEDED)]
    assert taken(queues) == [("a", 2)]


@pytest.mark.parametrize("policy", [Policy.FIFO, Policy.ALL])
def test_a_full_fifo_drops_the_frame_that_comes(policy: Policy) -> None:
    queues = CameraQueues(policy, depth=2)
    drops = [queues.put(frame(sequence=number)) for number in range(3)]
    assert [(drop.frame.sequence, drop.reason) for drop in drops if drop] == [(2, QUEUE_FULL)]
    assert taken(queues) == [("a", 0), ("a", 1)]


def test_a_frame_past_the_age_limit_is_dropped_when_its_turn_comes() -> None:
    queues = CameraQueues(Policy.FIFO, depth=8, max_age_s=1.0)
    for number, arrived in enumerate((0.0, 0.5, 2.0)):
        queues.put(frame(sequence=number, arrived=arrived))
    kept, stale = queues.take(2.0)
    assert kept is not None
    assert (kept.sequence, [(drop.frame.sequence, drop.reason) for drop in stale]) == (2, [(0, TOO_OLD), (1, TOO_OLD)])


def test_a_frame_exactly_at_the_age_limit_is_kept() -> None:
    queues = CameraQueues(Policy.LATEST, max_age_s=1.0)
    queues.put(frame(arrived=1.0))
    assert queues.take(2.0)[0] is not None


def test_a_fast_camera_cannot_starve_a_slow_one() -> None:
    queues = CameraQueues(Policy.FIFO, depth=100)
    for number in range(50):
        queues.put(frame("fast", number))
    queues.put(frame("slow", 0))
    assert ("slow", 0) in taken(queues)[:2]


def test_more_cameras_than_allowed_are_refused_and_the_known_ones_go_on() -> None:
    queues = CameraQueues(Policy.LATEST, max_cameras=2)
    assert queues.put(frame("a")) is None
    assert queues.put(frame("b")) is None
    refused = queues.put(frame("c"))
    assert refused is not None
    assert refused.reason == TOO_MANY_CAMERAS
    assert queues.put(frame("a", 1)) is not None
    assert taken(queues) == [("a", 1), ("b", 0)]


def test_clearing_gives_back_every_waiting_frame() -> None:
    queues = CameraQueues(Policy.FIFO, depth=4)
    for camera in "ab":
        for number in range(3):
            queues.put(frame(camera, number))
    assert Counter(drop.reason for drop in queues.clear("stopping")) == {"stopping": 6}
    assert (len(queues), queues.take(0.0)) == (0, (None, []))


steps = st.lists(st.one_of(st.tuples(st.just("put"), st.sampled_from("abcd")), st.just(("take", ""))), max_size=60)


@given(steps, st.sampled_from(Policy), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 3.0]))
def test_every_frame_put_is_taken_or_dropped_exactly_once(steps, policy, depth, cameras, age) -> None:
    queues = CameraQueues(policy, depth=depth, max_age_s=age, max_cameras=cameras)
    ends: Counter[int] = Counter()
    put = 0
    for now, (verb, camera) in enumerate(steps):
        if verb == "put":
            drop = queues.put(frame(camera, put, float(now)))
            put += 1
            ends.update([drop.frame.sequence] if drop else [])
        else:
            kept, stale = queues.take(float(now))
            ends.update(drop.frame.sequence for drop in stale)
            ends.update([kept.sequence] if kept else [])
        assert len(queues) == put - ends.total()
        assert len(queues) <= depth * cameras
    ends.update(drop.frame.sequence for drop in queues.clear("stopping"))
    assert ends == Counter(range(put))


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_frames_of_one_camera_leave_in_the_order_they_came(cameras) -> None:
    queues = CameraQueues(Policy.FIFO, depth=100)
    for number, camera in enumerate(cameras):
        queues.put(frame(camera, number))
    for camera in "abc":
        mine = [sequence for name, sequence in taken(queues) if name == camera]
        assert mine == sorted(mine)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6), min_size=1))
def test_turns_differ_by_at_most_one_while_all_have_frames(waiting) -> None:
    queues = CameraQueues(Policy.FIFO, depth=10)
    for camera, count in waiting.items():
        for number in range(count):
            queues.put(frame(camera, number))
    rounds = min(waiting.values()) * len(waiting)
    served = Counter(camera for camera, _ in taken(queues)[:rounds])
    assert max(served.values()) - min(served.values()) <= 0
