"""Requests over a real broker, and the answers that come back to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.errors import PublishError
from agent.mqtt.client import MqttTransport
from agent.mqtt.rpc import rpc_client
from agent.mqtt.transport import Message
from tests.support.broker import Broker
from tests.support.inbox import Inbox, connected, subscribed


async def test_each_response_reaches_the_request_it_answers(broker: Broker, topic: str):
    async with MqttTransport("client", broker.options) as ours, MqttTransport("server", broker.options) as theirs:
        requests = Inbox()
        theirs.subscribe(f"{topic}/double", requests, qos=1)
        async with rpc_client(ours, f"{topic}/responses/") as client:
            await asyncio.gather(connected(ours), subscribed(theirs, topic))
            pending = [asyncio.create_task(client.request(f"{topic}/double", b"%d" % n, timeout_s=10)) for n in (1, 2)]
            for request in reversed(await requests.wait(2)):
                assert request.response_topic == client.response_topic
                answer = replace(request, topic=client.response_topic, payload=b"%d" % (2 * int(request.payload)))
                theirs.publish(answer)
            assert [response.payload for response in await asyncio.gather(*pending)] == [b"2", b"4"]


async def test_what_nobody_answers_ends_with_its_deadline_and_a_late_answer_is_ignored(broker: Broker, topic: str):
    async with MqttTransport("client", broker.options) as transport:
        await connected(transport)
        async with rpc_client(transport, f"{topic}/responses/") as client:
            with pytest.raises(TimeoutError):
                await client.request(f"{topic}/nobody", timeout_s=0.05)
            client.on_response(Message(client.response_topic, b"late", correlation_data=b"gone"))


async def test_a_request_that_the_broker_never_gets_is_no_silence(broker: Broker, topic: str):
    async with MqttTransport("client", broker.options) as transport, rpc_client(transport, f"{topic}/") as client:
        await connected(transport)
        with pytest.raises(PublishError):
            await client.request(f"{topic}/#", timeout_s=10)
