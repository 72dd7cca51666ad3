from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.subscriptions import FILTERS_PER_SUBSCRIBE, Session


def subscribe_all(session: Session, first_id: int = 1) -> list[list[tuple[str, int]]]:
    """Ask for what is missing and grant it."""
    batches = session.missing(numbered=True)
    for packet_id, batch in enumerate(batches, first_id):
        session.asked(packet_id, [name for name, _ in batch])
        session.answered(packet_id, [None] * len(batch))
    return batches


def test_a_lost_session_is_subscribed_again_in_batches_that_every_broker_takes():
    session = Session()
    for index in range(20):
        session.want(f"t/{index}", 1)
    session.begin(present=False)
    assert [len(batch) for batch in subscribe_all(session)] == [FILTERS_PER_SUBSCRIBE, FILTERS_PER_SUBSCRIBE, 4]
    assert session.missing(numbered=True) == []
    session.begin(present=True)
    assert session.missing(numbered=True) == []
    session.begin(present=False)
    assert sum(map(len, session.missing(numbered=True))) == 20


def test_a_kept_session_is_brought_in_line_with_what_changed_meanwhile():
    session = Session()
    for name in ("stays", "goes"):
        session.want(name, 0)
    subscribe_all(session)
    session.forget("goes")
    session.want("comes", 1)
    session.begin(present=True)
    assert session.surplus() == ["goes"]
    assert session.missing(numbered=True) == [[("comes", 1)]]
    session.left(["goes"])
    assert session.surplus() == []


def test_what_was_asked_and_not_answered_is_asked_again():
    session = Session()
    session.want("a", 0)
    session.asked(1, ["a"])
    session.begin(present=True)
    assert session.missing(numbered=True) == [[("a", 0)]]


def test_a_refusal_is_remembered_until_the_next_connection():
    session = Session()
    session.want("a", 0)
    session.want("b", 0)
    session.asked(1, ["a", "b"])
    assert session.answered(1, ["Not authorized", None]) == {"a": "Not authorized"}
    assert session.refused == {"a": "Not authorized"}
    assert session.missing(numbered=True) == []
    session.begin(present=True)
    assert session.missing(numbered=True) == [[("a", 0)]]


def test_a_filter_that_the_broker_cannot_serve_is_not_asked_for():
    session = Session()
    session.want("$share/g/a", 0)
    session.want("b", 0)
    refused = session.hopeless(lambda name: "no shared subscriptions" if name.startswith("$share") else None)
    assert refused == {"$share/g/a": "no shared subscriptions"}
    assert session.missing(numbered=True) == [[("b", 0)]]


def test_wanting_again_asks_again_for_the_sake_of_what_is_retained():
    session = Session()
    session.want("a", 0)
    subscribe_all(session)
    session.want("a", 1)
    assert session.missing(numbered=True) == [[("a", 1)]]


def test_only_filters_that_overlap_are_numbered_and_each_is_asked_for_alone():
    session = Session()
    session.want("a/b", 0)
    session.want("c", 0)
    subscribe_all(session)
    session.want("a/+", 0)
    batches = session.missing(numbered=True)
    assert sorted(batches) == [[("a/+", 0)], [("a/b", 0)]]
    assert session.number("c") is None
    one, other = session.number("a/b"), session.number("a/+")
    assert one is not None
    assert other is not None
    assert session.meant([one, other], "a/b") == ("a/b", "a/+")
    assert session.meant([other], "a/c") == ("a/+",)
    assert session.meant([999], "a/b") == ()
    assert session.meant([one], "elsewhere") == ()
    assert session.missing(numbered=False) == [[("a/b", 0), ("a/+", 0)]]


def test_what_is_to_be_asked_for_again_and_then_forgotten_is_left_at_the_broker():
    session = Session()
    session.want("a/+", 0)
    subscribe_all(session)
    session.want("a/b", 0)  # overlaps: a/+ is to get a number
    session.forget("a/+")
    assert session.surplus() == ["a/+"]


FILTERS = st.sampled_from(["a/b", "a/+", "+/b", "c", "#"])


@given(st.lists(st.tuples(st.sampled_from(["want", "forget", "lose", "keep", "sync"]), FILTERS), max_size=40))
def test_after_a_synchronisation_the_broker_holds_what_is_wanted(acts: list[tuple[str, str]]):
    session, wanted, held, packet_id = Session(), set(), set(), 0
    for act, name in [*acts, ("sync", "")]:
        if act == "want":
            session.want(name, 0)
            wanted.add(name)
        elif act == "forget":
            session.forget(name)
            wanted.discard(name)
        elif act == "lose":
            session.begin(present=False)
            held.clear()
        elif act == "keep":
            session.begin(present=True)
        else:
            surplus = session.surplus()
            session.left(surplus)
            held -= set(surplus)
            for batch in session.missing(numbered=True):
                packet_id += 1
                names = [each for each, _ in batch]
                session.asked(packet_id, names)
                session.answered(packet_id, [None] * len(names))
                held |= set(names)
            assert held == wanted
