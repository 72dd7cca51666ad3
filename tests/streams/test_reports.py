"""How often refusals are reported."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.streams.metrics import Report, Reports


def test_the_first_refusal_on_a_topic_is_reported_at_once():
    assert Reports().note("cameras/a", "not-an-image", now=5.0) == Report("cameras/a", "not-an-image", suppressed=0)


def test_the_next_report_tells_how_many_were_held_back():
    reports = Reports(per_s=60.0)
    reports.note("cameras/a", "truncated", now=0.0)
    assert [reports.note("cameras/a", "truncated", now=float(second)) for second in range(1, 60)] == [None] * 59
    assert reports.note("cameras/a", "not-an-image", now=60.0) == Report("cameras/a", "not-an-image", suppressed=59)
    assert reports.note("cameras/a", "not-an-image", now=120.0) == Report("cameras/a", "not-an-image", suppressed=0)


def test_topics_do_not_hold_each_other_back():
    reports = Reports()
    assert reports.note("cameras/a", "truncated", now=0.0)
    assert reports.note("cameras/b", "truncated", now=0.0)


def test_a_publisher_who_invents_topics_cannot_fill_the_memory():
    reports = Reports(max_topics=8)
    for number in range(1000):
        reports.note(f"invented/{number}", "truncated", now=0.0)
    assert len(reports) == 8


def test_the_topic_refused_least_recently_is_forgotten_first():
    reports = Reports(max_topics=2)
    for topic in ("a", "b", "a", "c"):
        reports.note(topic, "truncated", now=0.0)
    assert reports.note("a", "truncated", now=1.0) is None
    assert reports.note("b", "truncated", now=1.0) is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=100))
def test_each_refusal_is_reported_or_counted_and_reports_keep_their_distance(steps):
    reports = Reports(per_s=60.0)
    now, told, last = 0.0, Counter(), {}
    noted = Counter(topic for topic, _ in steps)
    for topic, pause in steps:
        now += float(pause)
        report = reports.note(topic, "truncated", now)
        if report:
            assert topic not in last or now - last[topic] >= 60.0
            last[topic] = now
            told[topic] += 1 + report.suppressed
    later = {topic: reports.note(topic, "truncated", now + 60.0) for topic in noted}
    assert {topic: told[topic] + report.suppressed for topic, report in later.items()} == noted
