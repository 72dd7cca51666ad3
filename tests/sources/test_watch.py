"""Which files of a folder are news."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.watch import Entry, Watch, pick

FILES = st.lists(
    st.builds(
        Entry,
        modified_ns=st.integers(0, 5),
        name=st.sampled_from(["a.jpg", "b.jpg", "c.jpg"]),
        size=st.integers(0, 2),
        inode=st.integers(1, 2),
    ),
    max_size=3,
    unique_by=lambda entry: entry.name,
)
A, B = Entry(1, "a.jpg", 10, 1), Entry(2, "b.jpg", 10, 2)


@given(st.lists(FILES, min_size=1, max_size=12))
def test_a_file_is_news_only_when_it_was_the_same_in_two_looks_and_was_not_given_so(looks) -> None:
    watch = Watch(1.0)
    for number, entries in enumerate(looks):
        for ready in watch.look(entries, float(number)):
            assert number > 0
            assert ready in looks[number - 1]
            assert watch.look(entries, float(number)) == []


@given(FILES)
def test_what_stays_as_it_is_becomes_news_once_the_oldest_first(entries) -> None:
    watch = Watch(1.0)
    assert watch.look(entries, 0.0) == []
    assert watch.look(entries, 0.9) == []
    assert watch.look(entries, 1.0) == sorted(entries)
    assert watch.look(entries, 99.0) == []


def test_what_is_known_is_no_news_until_it_changes() -> None:
    watch = Watch(0.0)
    watch.know([A, B])
    assert watch.look([A, B], 1.0) == []
    changed = Entry(9, "a.jpg", 10, 1)
    assert watch.look([changed, B], 2.0) == [changed]


def test_a_file_that_is_renamed_over_another_of_the_same_size_and_time_is_news() -> None:
    watch = Watch(0.0)
    watch.know([A])
    again = Entry(A.modified_ns, A.name, A.size, A.inode + 1)
    assert watch.look([again], 1.0) == [again]


def test_a_file_that_was_removed_and_comes_back_is_news() -> None:
    watch = Watch(0.0)
    watch.know([A])
    assert watch.look([], 1.0) == []
    assert watch.look([A], 2.0) == [A]


def test_what_grows_from_look_to_look_is_not_news_until_it_has_stopped() -> None:
    watch = Watch(0.2)
    for step in range(20):
        assert watch.look([Entry(step, "a.jpg", step * 100, 1)], step * 0.1) == []
    whole = Entry(19, "a.jpg", 1900, 1)
    assert watch.look([whole], 1.95) == []
    assert watch.look([whole], 2.2) == [whole]


@given(FILES)
def test_one_after_the_other_goes_through_all_files_before_any_comes_again(entries) -> None:
    last, seen = "", []
    for _ in entries:
        entry = pick(entries, "next", last)
        last = entry.name
        seen.append(last)
    assert sorted(seen) == sorted(entry.name for entry in entries)


def test_the_newest_is_the_one_written_last() -> None:
    assert pick([B, A], "newest", "b.jpg") == B
    assert pick([], "newest", "") is None
