"""Limits of IoT Core that are kept by counting, at the limit and one past it; those of a message are rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import parse
from agent.config.transports import IotCoreLimits, IotCoreOptions
from agent.errors import ConfigError
from agent.mqtt.iotcore.client import IotCoreTransport
from agent.mqtt.iotcore.quotas import IotCoreBroker, Pace
from agent.mqtt.sending import OutgoingMessage, Sending, SendQueue
from agent.mqtt.transport import Message
from tests.support.broker import Broker
from tests.support.certs import Certificates
from tests.support.inbox import Inbox, connected, delivered


@pytest.mark.parametrize(("count", "packets"), [(8, [8]), (9, [8, 1])])
async def test_eight_filters_go_in_one_subscribe_and_the_ninth_in_the_next(
    certificates: Certificates,
    iotcore: Callable[..., IotCoreOptions],
    thing: str,
    topic: str,
    count: int,
    packets: list[int],
):
    with Broker(tls=certificates, client_certificates=True, lines=["log_type all"]) as talkative:
        async with IotCoreTransport("t", iotcore(port=talkative.port, client_id=thing)) as transport:
            inbox = Inbox()
            for number in range(count):
                transport.subscribe(f"{topic}/{number}", inbox, qos=1)
            await connected(transport)
            await delivered(transport, Message(f"{topic}/{count - 1}", b"1", qos=1))
            await inbox.wait(1)
        asked = talkative.log.split(f"Received SUBSCRIBE from {thing}\n")[1:]
        assert [packet.split("Sending SUBACK")[0].count("(QoS 1)") for packet in asked] == packets


class Silent:
    """A client whose broker acknowledges nothing."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    ready = True

    def publish(self, _message: Message) -> int:
        self.sent.append(len(self.sent))
        return self.sent[-1]


@pytest.mark.parametrize(
    ("count", "broker", "goes"), [(100, 65_535, 100), (101, 65_535, 100), (20, 20, 20), (21, 20, 20)]
)
async def test_no_more_is_unacknowledged_than_iot_core_and_the_broker_take(count: int, broker: int, goes: int):
    rules = IotCoreLimits(publishes_per_s=1000)
    sending, client = Sending("broker", SendQueue(1000, 1000), Pace(rules)), Silent()
    sending.up(client, IotCoreBroker(receive_maximum=broker, rules=rules))
    ended: list[int] = []
    for number in range(count):
        message = Message("t", b"%d" % number, qos=1)
        sending.publish(OutgoingMessage(message, lambda _, number=number: ended.append(number)))
    assert len(client.sent) == goes
    sending.ended(client.sent[0], None)
    sending.flush()
    assert len(client.sent) == count
    await asyncio.sleep(0)
    assert ended == [0]
    sending.down()


@pytest.mark.parametrize(
    ("key", "limit", "past"),
    [
        ("client_id", "t" * 128, "t" * 129),
        ("keepalive_s", 5, 4),
        ("keepalive_s", 1200, 1201),
        ("receive_maximum", 65_535, 65_536),
        ("session_expiry_s", 2**32 - 1, 2**32),
        ("limits", {"in_flight": 65_535}, {"in_flight": 65_536}),
    ],
)
def test_what_a_connection_may_be_told_ends_where_iot_core_does(key: str, limit: Any, past: Any):
    def config(value: Any) -> Any:
        files = {"cert_file": "c.pem", "key_file": "k.pem"}
        table = {"type": "iotcore", "endpoint": "broker", **files, key: value}
        return parse({"thing": "camera-7", "transports": {"cloud": table}}, "verge.toml", Path("/etc/verge"), {})

    assert config(limit)
    with pytest.raises(ConfigError, match=r"transports\.cloud"):
        config(past)
