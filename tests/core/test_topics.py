"""Topics: built in one place, with names from outside kept to one level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.topics import Topics, camera_of, level, matches, valid_topic


@pytest.mark.parametrize(
    ("topic_filter", "topic", "camera"),
    [
        ("cameras/+/frame", "cameras/line-3/frame", "line-3"),
        ("+/cameras/+", "hall/cameras/7", "hall/7"),
        ("site/#", "site/hall/7", "hall/7"),
        ("site/#", "site", "site"),
        ("door/frame", "door/frame", "door/frame"),
        ("$share/group/cameras/+/frame", "cameras/a/frame", "a"),
        ("#", "a/b", "a/b"),
    ],
)
def test_a_camera_is_what_the_wildcards_stand_for(topic_filter, topic, camera) -> None:
    assert camera_of(topic_filter, topic) == camera


levels = st.text(st.characters(blacklist_characters="/+#\0", blacklist_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(levels, min_size=1, max_size=5), st.data())
def test_any_topic_that_matches_has_a_camera(parts, data) -> None:
    pattern = [data.draw(st.sampled_from([part, "+"])) for part in parts]
    topic, topic_filter = "/".join(parts), "/".join(pattern)
    if matches(topic_filter, topic):
        assert camera_of(topic_filter, topic)


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_any_name_becomes_one_level_of_a_valid_topic(name) -> None:
    topics = Topics(name)
    for topic in (topics.status, topics.stream(name), topics.component(name)):
        assert valid_topic(topic)
    assert "/" not in level(name)


def test_the_topics_are_where_the_documentation_says() -> None:
    topics = Topics("box")
    assert topics.status == "verge/box/status"
    assert topics.stream("line") == "verge/box/streams/line"
    assert topics.component("eyes") == "verge/box/components/eyes"
