"""What is accepted and has not ended: each message once, in the order of publication, and its turn at the client."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotConnectedError
from agent.mqtt.iotcore.quotas import IotCoreBroker, Pace
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.sending import OutgoingMessage, Sending, SendQueue
from agent.mqtt.transport import Message

WINDOW = 3
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2)),
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("ack"), st.integers(0, 10)),
        st.tuples(st.just("return"), st.integers(0, 10)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("requeue"), st.just(0)),
    ),
    max_size=60,
)


def new_queue() -> SendQueue:
    return SendQueue(max_messages=100, max_bytes=10_000)


@given(ACTS)
def test_every_message_is_in_the_queue_or_ended_once_and_none_overtakes(acts: list[tuple[str, int]]):
    queue, added, ended, packet_id = new_queue(), [], [], 0
    in_flight: list[int] = []
    for act, value in acts:
        if act == "add":
            outgoing = OutgoingMessage(Message(str(len(added)), bytes(len(added)), qos=value))
            added.append(outgoing)
            queue.add(outgoing)
        elif act == "send" and (outgoing := queue.next(WINDOW)):
            packet_id += 1
            queue.sent(packet_id, outgoing, outgoing.message.qos)
            in_flight.append(packet_id)
        elif act in {"ack", "return"} and in_flight:
            sent = queue.ended(in_flight.pop(value % len(in_flight)))
            if sent and act == "ack":
                ended.append(sent[0])
            elif sent:
                queue.put_back(sent[0])
        elif act == "lost":
            ended += queue.take_qos_0()
        elif act == "requeue":
            queue.requeue_in_flight()
            assert not queue.in_flight
            assert queue.ended(packet_id) is None
        assert len(queue.in_flight) <= WINDOW
        assert sorted(map(id, [*queue, *ended])) == sorted(map(id, added))
        waiting = [added.index(outgoing) for outgoing in queue][len(queue.in_flight) :]
        assert waiting == sorted(waiting)
        assert len(queue) == len(list(queue))
        assert queue.bytes == sum(len(outgoing.message.payload) for outgoing in queue)


def test_qos_0_ends_with_the_link_also_when_the_broker_lowered_it_to_that():
    queue = new_queue()
    lowered, kept, plain = (OutgoingMessage(Message("a", b"", qos=qos)) for qos in (2, 1, 0))
    queue.sent(1, lowered, 0)
    queue.sent(2, kept, 1)
    queue.add(plain)
    assert queue.take_qos_0() == [lowered, plain]
    assert list(queue) == [kept]


def test_what_could_not_be_sent_goes_first_again():
    queue = new_queue()
    first, second = (OutgoingMessage(Message(name, b"", qos=1)) for name in "ab")
    queue.add(first)
    queue.add(second)
    assert queue.next(1) is first
    queue.put_back(first)
    assert list(queue) == [first, second]


class Client:
    """A client that answers nothing by itself."""

    ready = True

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def publish(self, message: Message) -> int:
        self.sent.append(message)
        return len(self.sent)


async def test_what_the_broker_could_not_take_now_is_sent_again_before_what_was_published_later():
    sending, client = Sending("broker", new_queue(), Pace(IotCoreBroker().rules)), Client()
    sending.up(client, IotCoreBroker())
    for payload in (b"1", b"2", b"3"):
        sending.publish(OutgoingMessage(Message("a", payload, qos=1)))
    for ticket in (1, 2):  # the second one ends after the pause of the first has begun
        sending.ended(ticket, NotConnectedError("a quota is exceeded", code="quota-exceeded"))
        sending.flush()
    sending.down()
    sending.up(client, IotCoreBroker())
    assert [message.payload for message in client.sent] == [b"1", b"2", b"3", b"1", b"2"]
    sending.down()


async def test_what_waits_is_checked_again_only_where_a_connection_has_other_limits():
    class Counted(BrokerLimits):
        checks = 0

        def check(self, message: Message) -> int:
            Counted.checks += 1
            return super().check(message)

    sending, client = Sending("broker", new_queue()), Client()
    ends: list[object] = []
    sending.up(client, Counted())
    sending.down()
    for size in (10, 1000):
        sending.publish(OutgoingMessage(Message("a", bytes(size), qos=1), ends.append, size))
    sending.up(client, Counted())
    assert (Counted.checks, len(client.sent)) == (0, 2)
    sending.down()
    sending.queue.requeue_in_flight()
    sending.up(client, Counted(maximum_packet_size=500))
    await asyncio.sleep(0)
    assert [getattr(error, "code", None) for error in ends] == ["packet-too-large"]
    assert [len(message.payload) for message in client.sent] == [10, 1000, 10]
