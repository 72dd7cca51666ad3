"""The demo's books: messages in, rows and a summary out."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.demo.scores import CameraCounts, Percentiles, ResultSeen, Scores, Sequences, StreamReport, percentiles

CAMERA = "front-door"
NUMBERS = st.lists(st.integers(1, 30))


def a_result(camera: str = CAMERA, total: float = 20.0, *found: tuple[str, float]) -> ResultSeen:
    """As the agent publishes it; what the demo does not read is there too."""
    told = {
        "id": "01M81XWD9R8S6TMRJTD3E3RY64",
        "frame": {"camera": camera, "topic": f"cameras/{camera}/frame"},
        "predictions": [{"label": label, "label_id": 1, "score": score} for label, score in found],
        "timing_ms": {"queue": 1.0, "total": total},
    }
    return msgspec.convert(told, ResultSeen)


def a_report(**cameras: CameraCounts) -> StreamReport:
    counts = cameras.values()
    dropped, failed = sum(c.dropped for c in counts), sum(c.failed for c in counts)
    return StreamReport(
        state="RUNNING",
        model={"component": "detector"},
        received=sum(c.received for c in counts),
        answered=sum(c.answered for c in counts),
        dropped={"superseded": dropped} if dropped else {},
        failed={"worker-lost": failed} if failed else {},
        cameras={name.replace("_", "-"): counts for name, counts in cameras.items()},
    )


def test_a_camera_has_a_row_before_its_first_frame():
    (row,) = Scores([CAMERA]).rows(now=0.0)
    assert (row.camera, row.frames, row.fps, row.sees) == (CAMERA, 0, 0.0, "")
    assert row.latency_ms == Percentiles(None, None)


def test_a_camera_that_nobody_announced_gets_a_row_with_its_first_result():
    scores = Scores([CAMERA])
    scores.on_result(a_result("yard"), now=1.0)
    assert [row.camera for row in scores.rows(now=1.0)] == [CAMERA, "yard"]


def test_counts_are_the_agents_and_latencies_those_of_the_results():
    scores = Scores([CAMERA])
    scores.on_report(a_report(front_door=CameraCounts(received=9, answered=5, dropped=3, failed=1)))
    for total in (10.0, 30.0, 20.0):
        scores.on_result(a_result(CAMERA, total), now=1.0)
    (row,) = scores.rows(now=1.0)
    assert (row.frames, row.answered, row.dropped, row.failed) == (9, 5, 3, 1)
    assert row.latency_ms == Percentiles(p50=20.0, p95=30.0)


def test_a_row_names_the_two_best_predictions_of_the_last_result():
    scores = Scores([CAMERA])
    scores.on_result(a_result(CAMERA, 1.0, ("Person", 0.62), ("Bottle", 0.311), ("Hat", 0.3)), now=1.0)
    assert scores.rows(now=1.0)[0].sees == "Person 62%, Bottle 31%"
    scores.on_result(a_result(CAMERA, 1.0), now=2.0)
    assert scores.rows(now=2.0)[0].sees == "nothing it knows"


def test_the_rate_is_of_the_last_five_seconds_and_falls_to_nothing_in_silence():
    scores = Scores([CAMERA])
    for tick in range(101):
        scores.on_result(a_result(), now=tick / 10)
    assert scores.rows(now=10.0)[0].fps == 10.0
    assert 0 < scores.rows(now=14.0)[0].fps < 10.0
    assert scores.rows(now=16.0)[0].fps == 0.0


def test_the_summary_balances_when_every_frame_is_answered_or_counted_and_every_answer_arrived():
    scores = Scores([CAMERA])
    scores.on_report(a_report(front_door=CameraCounts(received=4, answered=2, dropped=1, failed=1)))
    scores.on_result(a_result(), now=1.0)
    assert not scores.summary({CAMERA: 4}).balanced  # an answer has not arrived
    scores.on_result(a_result(), now=1.5)
    summary = scores.summary({CAMERA: 4})
    assert summary.balanced
    assert summary.reasons == {"superseded": 1, "worker-lost": 1}
    assert (summary.fps, summary.seconds) == (2.0, 0.5)
    assert not scores.summary({CAMERA: 5}).balanced  # a frame did not get to the agent


@given(
    frames=st.integers(0, 5), received=st.integers(0, 5), answered=st.integers(0, 5),
    dropped=st.integers(0, 5), failed=st.integers(0, 5), results=st.integers(0, 5),
)  # fmt: skip
def test_a_summary_balances_only_if_no_frame_and_no_answer_is_missing(
    frames, received, answered, dropped, failed, results
):
    scores = Scores([CAMERA])
    scores.on_report(a_report(front_door=CameraCounts(received, answered, dropped, failed)))
    for tick in range(results):
        scores.on_result(a_result(), now=float(tick))
    whole = frames == received and received == answered + dropped + failed and results == answered
    assert scores.summary({CAMERA: frames}).balanced is whole


def test_nothing_published_and_nothing_heard_balances():
    summary = Scores([CAMERA]).summary({})
    assert summary.balanced
    assert (summary.frames, summary.fps, summary.seconds) == (0, 0.0, 0.0)


def test_the_summary_is_json_with_the_figures_of_each_camera():
    scores = Scores([CAMERA, "line-3"])
    scores.on_report(a_report(front_door=CameraCounts(2, 1, 1, 0), line_3=CameraCounts(1, 1, 0, 0)))
    scores.on_result(a_result(CAMERA, 12.345), now=1.0)
    scores.on_result(a_result("line-3", 50.0), now=2.0)
    told = msgspec.json.decode(msgspec.json.encode(scores.summary({CAMERA: 2, "line-3": 1})))
    assert told["frames"] == 3
    assert told["latency_ms"] == {"p50": 12.35, "p95": 50.0}
    assert told["cameras"][CAMERA] == {
        "frames": 2, "received": 2, "answered": 1, "dropped": 1, "failed": 0, "latency_ms": {"p50": 12.35, "p95": 12.35}
    }  # fmt: skip


def test_the_model_of_an_earlier_report_stays_when_a_later_one_has_none():
    scores = Scores([CAMERA])
    scores.on_report(a_report(front_door=CameraCounts(1, 1, 0, 0)))
    scores.on_report(StreamReport(state="STOPPED", received=2, answered=2))
    assert scores.summary({}).model == {"component": "detector"}
    assert scores.summary({}).received == 2


@given(st.lists(st.floats(0.01, 1e5), min_size=1))
def test_percentiles_lie_in_the_data_and_in_order(latencies):
    told = percentiles(latencies)
    assert min(latencies) - 0.01 <= told.p50 <= told.p95 <= max(latencies) + 0.01
    assert sum(value <= told.p50 + 0.01 for value in latencies) * 2 >= len(latencies)


@given(NUMBERS, st.integers(0, 30), st.integers(0, 30))
def test_missing_and_twice_are_what_a_plain_count_says(numbers, after, upto):
    sequences = Sequences()
    for number in numbers:
        sequences.add(number)
    wanted = range(after + 1, upto + 1)
    assert sequences.missing(after, upto) == len([number for number in wanted if number not in numbers])
    assert sequences.twice(after, upto) == sum(numbers.count(number) - 1 for number in wanted if number in numbers)
    assert sequences.highest == max(numbers, default=0)
