"""The books of a stream balance after every entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.streams.metrics import Latency, StreamMetrics

entries = st.lists(
    st.tuples(st.sampled_from(["arrived", "answer", "drop", "fail"]), st.sampled_from("abc")), max_size=80
)


@given(entries)
def test_received_is_answered_dropped_failed_and_pending_at_any_time(entries) -> None:
    metrics = StreamMetrics(max_cameras=2)
    open_frames = dict.fromkeys("abc", 0)
    for entry, camera in entries:
        if entry == "arrived":
            metrics.arrived(camera)
            open_frames[camera] += 1
        elif open_frames[camera]:
            open_frames[camera] -= 1
            if entry == "answer":
                metrics.answer(camera, 1.0, 0.0)
            elif entry == "drop":
                metrics.drop(camera, "superseded")
            else:
                metrics.fail(camera, "undecodable")
        assert metrics.pending == sum(open_frames.values())
        cameras = metrics.cameras.values()
        assert metrics.received == sum(camera.received for camera in cameras)
        assert metrics.answered == sum(camera.answered for camera in cameras)
        assert metrics.dropped.total() == sum(camera.dropped for camera in cameras)
        assert metrics.failed.total() == sum(camera.failed for camera in cameras)
        assert len(metrics.cameras) <= 3


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    metrics = StreamMetrics()
    for number in range(200):
        metrics.answer("a", 1.0, number * 0.1)
    assert metrics.fps(19.9) == 10.0
    assert metrics.fps(60.0) == 0.0


def test_percentiles_come_from_the_latest_answers() -> None:
    metrics = StreamMetrics()
    assert metrics.latency() is None
    for milliseconds in [1000.0] * 600 + [float(number) for number in range(512)]:
        metrics.answer("a", milliseconds, 0.0)
    assert metrics.latency() == Latency(256.0, 486.0, 506.0)
