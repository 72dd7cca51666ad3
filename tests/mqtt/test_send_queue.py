from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.inflight import Outbox, Parcel
from agent.mqtt.transport import Message

WINDOW = 3
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2)),
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("ack"), st.integers(0, 10)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("grounded"), st.just(0)),
    ),
    max_size=60,
)


@given(ACTS)
def test_every_parcel_is_in_the_outbox_or_ended_once_and_none_overtakes(acts: list[tuple[str, int]]):
    outbox, added, ended, packet_id = Outbox(), [], [], 0
    flying: list[int] = []
    for act, value in acts:
        if act == "add":
            parcel = Parcel(Message(str(len(added)), b"", qos=value), None)
            added.append(parcel)
            outbox.add(parcel)
        elif act == "send" and (parcel := outbox.next(WINDOW)):
            packet_id += 1
            outbox.sent(packet_id, parcel, parcel.message.qos)
            flying.append(packet_id)
        elif act == "ack" and flying:
            flight = outbox.ended(flying.pop(value % len(flying)))
            if flight:
                ended.append(flight[0])
        elif act == "lost":
            ended += outbox.unsendable()
        elif act == "grounded":
            outbox.grounded()
            assert not outbox.flying
            assert outbox.ended(packet_id) is None
        assert len(outbox.flying) <= WINDOW
        assert sorted(map(id, [*outbox, *ended])) == sorted(map(id, added))
        held = [added.index(parcel) for parcel in outbox]
        assert held == sorted(held)
        assert len(outbox) == len(held)


def test_qos_0_ends_with_the_link_also_when_the_broker_lowered_it_to_that():
    outbox = Outbox()
    lowered, kept, plain = (Parcel(Message("a", b"", qos=qos), None) for qos in (2, 1, 0))
    outbox.sent(1, lowered, 0)
    outbox.sent(2, kept, 1)
    outbox.add(plain)
    assert outbox.unsendable() == [lowered, plain]
    assert list(outbox) == [kept]


def test_what_could_not_be_sent_goes_first_again():
    outbox = Outbox()
    first, second = (Parcel(Message(name, b"", qos=1), None) for name in "ab")
    outbox.add(first)
    outbox.add(second)
    assert outbox.next(1) is first
    outbox.put_back(first)
    assert list(outbox) == [first, second]
