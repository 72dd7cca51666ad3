import pytest

from agent.errors import NotConnectedError
from agent.mqtt.transport import Message
from tests.support.inbox import Inbox, connected, delivered
from tests.support.memory import MemoryBus, MemoryTransport


async def test_a_dropped_transport_leaves_its_will():
    bus = MemoryBus()
    will = Message("status", b"offline", qos=1, retain=True)
    async with MemoryTransport(bus, "watcher") as watcher, MemoryTransport(bus, "lost", will=will) as lost:
        await connected(lost)
        inbox = Inbox()
        watcher.subscribe("status", inbox, qos=1)
        lost.drop()
        await inbox.wait(1)
        assert inbox.payloads == [b"offline"]
        assert bus.retained["status"].payload == b"offline"


async def test_what_is_published_during_an_outage_arrives_after_it():
    bus = MemoryBus()
    async with MemoryTransport(bus, "sender", max_queued_messages=2) as sender, MemoryTransport(bus, "other") as other:
        await connected(other)
        inbox = Inbox()
        other.subscribe("a", inbox, qos=1)
        sender.drop()
        sender.publish(Message("a", b"1", qos=1))
        sender.publish(Message("a", b"2", qos=1))
        with pytest.raises(NotConnectedError) as full:
            sender.publish(Message("a", b"3", qos=1))
        assert full.value.code == "queue-full"
        with pytest.raises(NotConnectedError):
            sender.publish(Message("a", b"4", qos=0))
        sender.restore()
        await inbox.wait(2)
        assert inbox.payloads == [b"1", b"2"]


async def test_subscriptions_are_renewed_after_an_outage():
    async with MemoryTransport(MemoryBus(), "t") as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe("a", inbox, qos=1)
        transport.drop()
        transport.restore()
        await delivered(transport, Message("a", b"x", qos=1))
        await inbox.wait(1)
        assert inbox.payloads == [b"x"]


async def test_what_waited_when_it_closed_ends_as_not_delivered():
    ends: list[object] = []
    async with MemoryTransport(MemoryBus(), "t") as transport:
        await connected(transport)
        transport.drop()
        transport.publish(Message("a", b"x", qos=1), ends.append)
    assert [type(end) for end in ends] == [NotConnectedError]


async def test_unacknowledged_messages_can_be_seen():
    async with MemoryTransport(MemoryBus(), "t") as transport:
        await connected(transport)
        inbox = Inbox()
        transport.subscribe("a", inbox, qos=1, manual_ack=True)
        await delivered(transport, Message("a", b"x", qos=1))
        (message,) = await inbox.wait(1)
        assert list(transport.unacknowledged) == [message.packet_id]
        transport.acknowledge(message)
        assert not transport.unacknowledged
