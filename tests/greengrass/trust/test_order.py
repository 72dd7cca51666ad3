"""The one order as a table, and the laws of its record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.errors import TYPES, DeploymentError
from agent.greengrass.trust import order
from agent.greengrass.trust.order import (
    EVERY_GROUP,
    Audience,
    Claims,
    Mark,
    OrderVerdict,
    Record,
    accepted,
    audience,
    closed,
    decide,
    forgotten,
    joined,
    migrated,
)

NOW = 1_795_000_000_000
DAY = 24 * 3600 * 1000
YEAR = 365 * DAY
AT = NOW - DAY
UNSET = 0
"""A clock that nobody set."""
RECORD = Record(groups={"g": Mark(AT, "newest", closed=True)})
OPEN = Record(groups={"g": Mark(AT, "newest")})
BACK = Record(groups={"g": Mark(AT, "newest", closed=True), EVERY_GROUP: Mark(AT + 5, "back", closed=True)})


def says(digest: str = "other", group: str = "g", at: int | None = AT, **more: object) -> Claims:
    return replace(Claims(digest, group, at), **more)


@pytest.mark.parametrize(
    ("claims", "record", "how", "verdict"),
    [
        (says(at=AT - 1), RECORD, {}, OrderVerdict.STALE),
        (says(at=AT - 1), RECORD, {"signed": True}, OrderVerdict.STALE),
        (says(at=AT - 1), RECORD, {"now_ms": UNSET}, OrderVerdict.STALE),
        (says(at=AT - 1), OPEN, {"signed": True}, OrderVerdict.STALE),
        (says(at=AT + 1), RECORD, {"signed": True}, OrderVerdict.ACCEPTED),
        (says(at=AT - 1, group="h"), RECORD, {"signed": True}, OrderVerdict.ACCEPTED),
        (says("newest"), RECORD, {"signed": True}, OrderVerdict.REPEATED),
        (says("newest"), OPEN, {"signed": True}, OrderVerdict.ACCEPTED),
        (says("newest"), RECORD, {}, OrderVerdict.ACCEPTED),
        (says("newest"), RECORD, {"retained": True}, OrderVerdict.REPEATED),
        (says(), RECORD, {"signed": True}, OrderVerdict.STALE),
        (says(), RECORD, {}, OrderVerdict.ACCEPTED),
        (says(at=AT + 4), BACK, {"signed": True}, OrderVerdict.STALE),
        (says(at=AT + 4, group="h"), BACK, {}, OrderVerdict.STALE),
        (says("back", at=AT + 5, rollback=True), BACK, {"signed": True}, OrderVerdict.REPEATED),
        (says(group="h", at=AT - 1, rollback=True), RECORD, {}, OrderVerdict.STALE),
        (says(group="h", at=AT + 6, rollback=True), BACK, {"signed": True}, OrderVerdict.ACCEPTED),
        (says(at=None), RECORD, {}, OrderVerdict.ACCEPTED),
        (says(at=None), RECORD, {"signed": True}, OrderVerdict.UNKNOWN),
        (says(at=None), RECORD, {"retained": True}, OrderVerdict.ACCEPTED),
        (says(at=None), replace(RECORD, taken=("other",)), {"retained": True}, OrderVerdict.REPEATED),
        (says(at=None), replace(RECORD, taken=("other",)), {}, OrderVerdict.ACCEPTED),
        (says(at=None), replace(RECORD, forgot=True), {"retained": True}, OrderVerdict.UNKNOWN),
        (says(at=NOW + DAY), RECORD, {}, OrderVerdict.ACCEPTED),
        (says(at=NOW + DAY + 1), RECORD, {"signed": True}, OrderVerdict.TOO_EARLY),
        (says(at=99_999_999_999_999_999), RECORD, {}, OrderVerdict.TOO_EARLY),
        (says(at=99_999_999_999_999_999), Record(), {"now_ms": UNSET}, OrderVerdict.TOO_EARLY),
        (says(at=NOW + YEAR), Record(), {"now_ms": UNSET}, OrderVerdict.ACCEPTED),
        (says(at=NOW + YEAR), RECORD, {"now_ms": AT - DAY - 1}, OrderVerdict.ACCEPTED),
        (says(at=NOW + YEAR), RECORD, {"now_ms": AT - DAY}, OrderVerdict.TOO_EARLY),
        (says(at=NOW, audience=Audience(frozenset({"t"}))), RECORD, {}, OrderVerdict.ACCEPTED),
        (says(at=NOW, audience=Audience(frozenset({"u"}))), RECORD, {}, OrderVerdict.NOT_FOR_ME),
        (says(at=None, audience=Audience(frozenset({"t", "u"}))), RECORD, {}, OrderVerdict.NOT_FOR_ME),
        (says(at=NOW, audience=Audience(expires_ms=NOW + 1)), RECORD, {}, OrderVerdict.ACCEPTED),
        (says(at=NOW, audience=Audience(expires_ms=NOW)), RECORD, {}, OrderVerdict.EXPIRED),
        (says(at=None, audience=Audience(expires_ms=AT)), RECORD, {"now_ms": UNSET}, OrderVerdict.EXPIRED),
        (says(at=None, audience=Audience(expires_ms=AT + 1)), RECORD, {"now_ms": UNSET}, OrderVerdict.ACCEPTED),
    ],
)
def test_the_order_as_a_table(claims, record, how, verdict):
    decision = decide(claims, record, **{"thing": "t", "now_ms": NOW} | how)
    assert decision.verdict is verdict
    if not decision.accepted:
        assert decision.reason
        assert decision.error.code in TYPES
        assert decision.hint or how.get("retained")


def test_a_stale_document_is_told_how_to_get_in_and_how_the_record_heals():
    decision = decide(says(at=AT - 1), RECORD, thing="t", now_ms=NOW)
    assert "older than the newest that was accepted, of 20" in decision.reason
    assert "new creationTimestamp" in decision.hint
    assert "verge trust forget g" in decision.hint


@pytest.mark.parametrize("document", [b'{"thing": 7}', b'{"expires": "soon"}', b'{"expires": "2027-01-01T00:00:00"}'])
def test_whom_a_document_is_for_is_read_or_refused(document):
    with pytest.raises(DeploymentError, match="for whom the document is"):
        audience(document)


def test_a_thing_is_named_alone_or_in_the_arn():
    arn = "arn:aws:greengrass:eu-west-1:123456789012:configuration:{}:3"
    assert audience(b"{}") == Audience()
    assert audience(b'{"configurationArn": "%b"}' % arn.format("thing/press").encode()).things == {"press"}
    assert audience(b'{"configurationArn": "%b"}' % arn.format("thinggroup/lab").encode()).things == set()


# -- the record's laws -------------------------------------------------------------------------------------------------

GROUPS = st.sampled_from(["a", "b", EVERY_GROUP])
# Of one time there is one signed document in a group: another is not accepted.
CLAIMS = st.builds(
    lambda group, at, rollback: Claims(f"{'*' if rollback else group}{at}", group, at, rollback=rollback),
    GROUPS, st.none() | st.integers(1, 5), st.booleans(),
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.sampled_from([accepted, closed]), CLAIMS), max_size=8)


def played(changes, record=None):
    for change, claims in changes:
        record = change(record or Record(), claims)
    return record or Record()


@given(CHANGES, CHANGES)
def test_a_change_never_moves_a_record_back(first, more):
    before = played(first)
    after = played(more, before)
    for group, mark in before.groups.items():
        assert (after.groups[group].time_ms, after.groups[group].closed) >= (mark.time_ms, mark.closed)
    assert set(before.taken) <= set(after.taken)


@given(CHANGES, CHANGES, CLAIMS)
def test_what_is_refused_by_either_record_is_refused_by_both_joined(first, second, claims):
    one, other = played(first), played(second)
    both = joined(one, other)
    again = [joined(other, one), joined(both, one), joined(other, both)]
    assert {(tuple(sorted(one.taken)), tuple(one.groups.items())) for one in (both, *again)} == {
        (tuple(sorted(both.taken)), tuple(both.groups.items()))
    }
    for signed, retained in ((True, False), (False, True)):
        how = {"thing": "t", "now_ms": 10, "signed": signed, "retained": retained}
        if not (decide(claims, one, **how).accepted and decide(claims, other, **how).accepted):
            assert not decide(claims, both, **how).accepted


@given(st.lists(st.integers(1, 10_000), min_size=130, max_size=300))
def test_a_record_is_bounded_and_a_group_without_room_stays_in_order(times):
    record = Record()
    for number, at in enumerate(times):
        record = accepted(record, Claims("d", f"g{number}", at))
    assert len(record.groups) <= 128
    for number, at in enumerate(times):
        assert not decide(Claims("e", f"g{number}", at - 1), record, thing="t", now_ms=10, signed=True).accepted


def test_a_signer_who_makes_up_groups_pushes_nobody_elses_out_and_makes_nobody_elses_stale():
    record = accepted(Record(), says(group="lab", at=AT - 9), ("anna",))
    for number in range(300):
        record = accepted(record, says(group=f"made-up-{number}", at=NOW + DAY), ("mallory",))
    assert record.groups["lab"].time_ms == AT - 9
    assert decide(says(group="lab"), record, thing="t", now_ms=NOW, signed=True).accepted


def test_documents_without_a_time_are_remembered_up_to_a_bound_and_then_retained_ones_are_not_taken():
    record = Record()
    for number in range(order._MAX_TAKEN + 1):
        assert not record.forgot
        record = accepted(record, Claims(str(number), "g"))
    assert (len(record.taken), record.forgot) == (order._MAX_TAKEN, True)


# -- healing -----------------------------------------------------------------------------------------------------------


def test_what_is_ahead_is_forgotten_down_to_now_and_nothing_old_counts_again():
    ahead = Record(groups={"g": Mark(NOW + YEAR, "x", closed=True), "h": Mark(NOW + YEAR), EVERY_GROUP: Mark(AT)})
    healed = forgotten(ahead, "g", NOW)
    assert decide(says(at=NOW + 1), healed, thing="t", now_ms=NOW, signed=True).accepted
    assert not decide(says(at=NOW), healed, thing="t", now_ms=NOW, signed=True).accepted
    assert (healed.groups["h"], healed.groups[EVERY_GROUP]) == (ahead.groups["h"], ahead.groups[EVERY_GROUP])
    assert joined(ahead, healed) == joined(healed, ahead) == healed


def test_a_group_is_forgotten_entirely_only_by_that_word():
    assert forgotten(RECORD, "g", NOW).groups == RECORD.groups
    assert forgotten(BACK, "g", NOW, entirely=True).groups == {}
    assert forgotten(BACK, None, NOW, entirely=True).groups == {}


def test_an_upgrade_goes_on_from_the_times_of_the_active_set_but_not_from_those_of_a_clock_that_was_ahead():
    record = migrated({"g": AT, "h": NOW + YEAR, "i": 0}, NOW, ("x",))
    assert record == Record(groups={"g": Mark(AT, closed=True)}, taken=("x",))
