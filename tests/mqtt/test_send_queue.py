from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.sending import OutgoingMessage, SendQueue
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
    queue, added, ended, packet_id = SendQueue(), [], [], 0
    in_flight: list[int] = []
    for act, value in acts:
        if act == "add":
            outgoing = OutgoingMessage(Message(str(len(added)), b"", qos=value), None)
            added.append(outgoing)
            queue.add(outgoing)
        elif act == "send" and (outgoing := queue.next(WINDOW)):
            packet_id += 1
            queue.sent(packet_id, outgoing, outgoing.message.qos)
            in_flight.append(packet_id)
        elif act == "ack" and in_flight:
            flight = queue.ended(in_flight.pop(value % len(in_flight)))
            if flight:
                ended.append(flight[0])
        elif act == "lost":
            ended += queue.unsendable()
        elif act == "grounded":
            queue.requeue_in_flight()
            assert not queue.in_flight
            assert queue.ended(packet_id) is None
        assert len(queue.in_flight) <= WINDOW
        assert sorted(map(id, [*queue, *ended])) == sorted(map(id, added))
        held = [added.index(outgoing) for outgoing in queue]
        assert held == sorted(held)
        assert len(queue) == len(held)


def test_qos_0_ends_with_the_link_also_when_the_broker_lowered_it_to_that():
    queue = SendQueue()
    lowered, kept, plain = (OutgoingMessage(Message("a", b"", qos=qos), None) for qos in (2, 1, 0))
    queue.sent(1, lowered, 0)
    queue.sent(2, kept, 1)
    queue.add(plain)
    assert queue.unsendable() == [lowered, plain]
    assert list(queue) == [kept]


def test_what_could_not_be_sent_goes_first_again():
    queue = SendQueue()
    first, second = (OutgoingMessage(Message(name, b"", qos=1), None) for name in "ab")
    queue.add(first)
    queue.add(second)
    assert queue.next(1) is first
    queue.put_back(first)
    assert list(queue) == [first, second]
