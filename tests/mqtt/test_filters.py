import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from agent.topics import TopicTable, covers, matches, overlap, share_stripped, valid_filter, valid_topic

LEVELS = st.sampled_from(["", "a", "b", "$a", "é"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(st.sampled_from(["", "a", "b", "$a", "é", "+"]), min_size=1, max_size=4), st.booleans()
).map(lambda parts: "/".join([*parts[0], *(["#"] if parts[1] else [])]))


@settings(max_examples=300)
@given(FILTERS.filter(bool), TOPICS)
def test_a_filter_matches_what_the_field_s_client_says_it_matches(topic_filter: str, topic: str):
    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+", "/", False),
        ("+/+", "/", True),
        ("$share/group/a/+", "a/b", True),
        ("$share/group/a/+", "$share/group/a/b", False),
    ],
)
def test_a_filter_matches_as_the_standard_says(topic_filter: str, topic: str, expected: bool):
    assert matches(topic_filter, topic) is expected


@settings(max_examples=300)
@given(FILTERS.filter(bool), FILTERS.filter(bool), TOPICS)
def test_filters_that_share_a_topic_overlap(one: str, other: str, topic: str):
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/+", "+/b", True),
        ("a/#", "a", True),
        ("a/b", "a/c", False),
        ("a", "a/b", False),
        ("a/+", "a/+/c", False),
        ("#", "$SYS/a", False),
        ("$share/g/a", "a", True),
    ],
)
def test_filters_overlap_when_a_topic_falls_under_both(one: str, other: str, expected: bool):
    assert overlap(one, other) is expected


@settings(max_examples=300)
@given(FILTERS.filter(bool), FILTERS.filter(bool), TOPICS)
def test_what_a_filter_covers_has_no_topic_outside_of_it(wide: str, narrow: str, topic: str):
    if covers(wide, narrow):
        assert overlap(wide, narrow)
        assert matches(wide, topic) or not matches(narrow, topic)
    elif "+" not in narrow and "#" not in narrow:
        assert not matches(wide, narrow)
    assert covers(narrow, narrow)


@pytest.mark.parametrize("topic", ["a", "a/b", "/", "$SYS/x", "ü", "a" * 65_535])
def test_these_are_topics(topic: str):
    assert valid_topic(topic)


@pytest.mark.parametrize("topic", ["", "+", "a/#", "a\0", "a\t", "\x9f", "\uffff", "a" * 65_536, "\ud800"])
def test_these_are_no_topics(topic: str):
    assert not valid_topic(topic)


@pytest.mark.parametrize("topic_filter", ["a", "#", "+", "a/+/#", "/", "$share/g/a/#", "$SYS/#"])
def test_these_are_filters(topic_filter: str):
    assert valid_filter(topic_filter)


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a+/b", "$share/g", "$share//a", "$share/g+/a", "$share/g/"])
def test_these_are_no_filters(topic_filter: str):
    assert not valid_filter(topic_filter)


def test_a_shared_filter_is_stripped_of_its_group():
    assert share_stripped("$share/group/a/b") == "a/b"
    assert share_stripped("a/b") == "a/b"


CHANGES = st.lists(st.tuples(st.booleans(), FILTERS.filter(bool), st.integers(0, 3)), max_size=20)


@given(CHANGES, st.lists(TOPICS, max_size=6))
def test_a_table_answers_as_if_it_remembered_nothing(changes: list[tuple[bool, str, int]], topics: list[str]):
    table: TopicTable[int] = TopicTable(max_cached=2)
    held: list[tuple[str, int]] = []
    for add, topic_filter, value in changes:
        if add:
            table.add(topic_filter, value)
            held.append((topic_filter, value))
        else:
            table.discard(topic_filter, value)
            if (topic_filter, value) in held:
                held.remove((topic_filter, value))
        for topic in topics:
            assert sorted(table.match(topic)) == sorted(value for name, value in held if matches(name, topic))
    assert len(table) == len({name for name, _ in held})
