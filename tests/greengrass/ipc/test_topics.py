import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.ipc.topics import TopicIndex, levels

LEVELS = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4)
FILTERS = st.lists(st.sampled_from(["a", "b", "", "$x", "+", "#"]), min_size=1, max_size=4)


def matches(topic_filter, topic):
    index = TopicIndex()
    index.add(topic_filter, "me")
    return "me" in index.match(topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("foo", "foo", True),
        ("foo", "foo/", True),
        ("foo/", "foo", True),
        ("foo/#", "foo/a", True),
        ("foo/#", "foo/a/b", True),
        ("foo/#", "foo", False),
        ("foo/#", "foo/", False),
        ("foo/+", "foo/a", True),
        ("foo/+", "foo/", False),
        ("foo/+", "foo/a/b", False),
        ("+", "foo/", True),
        ("#", "$aws/things", True),
        ("+/things", "$aws/things", True),
        ("+/+", "a", False),
        ("a/+/c", "a//c", True),
        ("Foo", "foo", False),
    ],
)
def test_local_topics_match_by_greengrasss_own_rules(topic_filter, topic, expected):
    assert matches(topic_filter, topic) is expected


def by_definition(topic_filter, topic):
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return bool(topic)
    return bool(topic) and topic_filter[0] in {"+", topic[0]} and by_definition(topic_filter[1:], topic[1:])


@given(st.lists(FILTERS.map("/".join), max_size=8), LEVELS.map("/".join))
def test_an_index_finds_what_each_filter_alone_matches_and_each_subscriber_once(filters, topic):
    index = TopicIndex()
    for number, one in enumerate(filters):
        index.add(one, number % 3)
    expected = set()
    for number, one in enumerate(filters):
        pattern = levels(one)
        pattern = pattern[: pattern.index("#") + 1] if "#" in pattern else pattern
        # What follows a # is never reached.
        if "#" in levels(one)[:-1]:
            continue
        if by_definition(pattern, levels(topic)):
            expected.add(number % 3)
    assert set(index.match(topic)) == expected


@given(st.lists(FILTERS.map("/".join), max_size=8))
def test_an_index_of_which_all_is_removed_is_empty(filters):
    index = TopicIndex()
    for one in filters:
        index.add(one, "me")
        index.add(one, "other")
    for one in filters:
        index.remove(one, "other")
        index.remove(one, "me")
        index.remove(one, "me again")
    assert len(index) == 0
    assert index._root.below == {}
