"""Which version is spoken next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.versions import VersionChoice

FIVE, OLD = 5, 4


def spoken(choice: VersionChoice, takes, attempts: int) -> list[int]:
    """The versions of the attempts until one is kept."""
    versions = []
    for _ in range(attempts):
        versions.append(choice.version)
        if takes(choice.version):
            if choice.answered():
                break
        else:
            choice.met_silence()
    return versions


@pytest.mark.parametrize(("wanted", "version"), [("5", FIVE), ("3.1.1", OLD)])
def test_a_version_that_is_named_is_the_only_one(wanted, version):
    choice = VersionChoice(wanted)
    assert not choice.met_silence()
    assert not choice.refused()
    assert choice.answered()
    assert choice.version == version


def test_silence_is_believed_when_3_1_1_was_answered_between_two_silences():
    choice = VersionChoice("auto")
    assert spoken(choice, lambda version: version == OLD, 9) == [FIVE, OLD, FIVE, OLD]
    assert choice.version == OLD
    assert choice.answered()


def test_a_word_of_the_broker_is_believed_at_once():
    choice = VersionChoice("auto")
    assert choice.refused()
    assert choice.version == OLD
    assert choice.answered()


def test_an_old_broker_that_was_away_is_found_again_and_one_that_was_renewed_is_spoken_to_in_5():
    choice = VersionChoice("auto")
    spoken(choice, lambda version: version == OLD, 9)
    assert not choice.met_silence()  # away, on 3.1.1: it is waited
    assert spoken(choice, lambda version: version == OLD, 9) == [FIVE, OLD, FIVE, OLD]
    assert not choice.met_silence()
    assert spoken(choice, lambda _: True, 9) == [FIVE]


@given(st.lists(st.booleans(), max_size=12))
def test_a_broker_that_knows_5_is_never_kept_on_3_1_1_whenever_it_is_there(silences):
    choice = VersionChoice("auto")
    for silent in silences:
        if not silent and choice.answered():
            assert choice.version == FIVE
            return
        if silent:
            choice.met_silence()
            if choice._settled:  # two silences around an answer: taken for an old one
                return
    assert spoken(choice, lambda _: True, 9)[-1] == FIVE


def test_attempts_that_are_due_at_once_do_not_go_on_for_ever():
    choice = VersionChoice("auto")
    assert [choice.met_silence() for _ in range(6)] == [True, False, True, False, True, False]
