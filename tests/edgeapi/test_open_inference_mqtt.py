"""The Open Inference Protocol over MQTT 5: requests and their answers, what is retained, and what is dropped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from agent.edgeapi.openinference.body import HEADER_LENGTH
from agent.edgeapi.openinference.mqtt import MqttBounds, MqttServer
from agent.edgeapi.openinference.service import OpenInference
from agent.inference.plane import InferencePlane
from agent.mqtt.client import MqttTransport
from agent.mqtt.replies import AnswerTopics
from agent.mqtt.transport import Message
from agent.topics import Topics
from tests.support.broker import Broker
from tests.support.inbox import Inbox, connected, subscribed
from tests.support.models import onnx_colours
from tests.support.serving import MEANS, NUMBERS, binary, load, plain, plane_with_colours
from tests.support.until import until


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[InferencePlane]:
    async with plane_with_colours(tmp_path) as made:
        yield made


class Caller:
    """A client on the broker of a served plane."""

    def __init__(self, transport: MqttTransport, thing: str) -> None:
        self.base = f"verge/{thing}/v2"
        self.answers = Inbox()
        self.retained: dict[str, Any] = {}
        self._answer_topic = f"{thing}/answers/1"
        self._transport = transport

    async def __aenter__(self) -> Self:
        await connected(self._transport)
        self._transport.subscribe(self._answer_topic, self.answers, qos=1)
        for topic_filter in (self.base, f"{self.base}/models/+", f"{self.base}/models/+/ready"):
            self._transport.subscribe(topic_filter, self._on_retained, qos=1)
        await subscribed(self._transport, self.base)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def _on_retained(self, message: Message) -> None:
        self.retained[message.topic.removeprefix(self.base)] = json.loads(message.payload or b"null")

    def send(self, payload: bytes, topic: str = "models/colours/infer", **how: Any) -> None:
        how = {"response_topic": self._answer_topic, "correlation_data": b"7", "qos": 1} | how
        self._transport.publish(Message(f"{self.base}/{topic}", payload, **how))

    async def ask(self, payload: bytes, topic: str = "models/colours/infer", **how: Any) -> Message:
        self.send(payload, topic, **how)
        (answer,) = await self.answers.wait(1)
        self.answers.messages.clear()
        return answer


@asynccontextmanager
async def serving(broker: Broker, plane: InferencePlane, thing: str, **how: Any) -> AsyncIterator[MqttServer]:
    async with MqttTransport("agent", broker.options) as transport:
        await connected(transport)
        async with MqttServer(OpenInference(plane), plane, transport, Topics(thing), **how) as server:
            await subscribed(transport, f"verge/{thing}/v2")
            yield server


@asynccontextmanager
async def calling(broker: Broker, thing: str) -> AsyncIterator[Caller]:
    async with MqttTransport("caller", broker.options) as transport, Caller(transport, thing) as caller:
        yield caller


def told(message: Message) -> tuple[str, Any]:
    properties = dict(message.user_properties)
    length = int(properties.get(HEADER_LENGTH, len(message.payload)))
    return properties["status"], json.loads(message.payload[:length])


async def test_a_request_is_answered_where_it_says_with_its_correlation(
    broker: Broker, plane: InferencePlane, thing: str
) -> None:
    async with serving(broker, plane, thing), calling(broker, thing) as caller:
        answer = await caller.ask(plain(id="a"), expiry_s=60)
        status, said = told(answer)
        assert (status, answer.correlation_data, answer.content_type) == ("200", b"7", "application/json")
        assert answer.expiry_s is not None
        assert (said["id"], said["outputs"][0]["data"]) == ("a", pytest.approx(MEANS.ravel()))
        body, headers = binary("images", "FP32", NUMBERS.shape, NUMBERS.tobytes())
        answer = await caller.ask(body, "models/colours/versions/1/infer", user_properties=(*headers.items(),))
        length = int(dict(answer.user_properties)[HEADER_LENGTH])
        assert answer.content_type == "application/octet-stream"
        assert np.frombuffer(answer.payload[length:], "<f4") == pytest.approx(MEANS.ravel())
        for topic, payload, status in (
            ("models/other/infer", plain(), "404"),
            ("models/colours/versions/2/infer", plain(), "404"),
            ("models/colours/infer", b"{", "400"),
        ):
            answer = await caller.ask(payload, topic)
            assert told(answer)[0] == status
            assert set(told(answer)[1]) == {"error"}


async def test_a_client_of_mqtt_3_names_its_answers_topic_in_the_json(
    broker: Broker, plane: InferencePlane, thing: str
) -> None:
    async with serving(broker, plane, thing) as server, calling(broker, thing) as caller:
        parameters = {"response_topic": f"{thing}/answers/1"}
        answer = await caller.ask(plain(id="a", parameters=parameters), response_topic=None, correlation_data=None)
        assert told(answer)[1]["id"] == "a"
        caller.send(plain(parameters={"response_topic": "$SYS/x"}), response_topic=None)
        await until(lambda: server.dropped == {"response-topic-refused": 1})


async def test_what_there_is_to_ask_is_retained_until_it_is_gone(
    broker: Broker, plane: InferencePlane, thing: str, tmp_path: Path
) -> None:
    async with calling(broker, thing) as caller:
        # What a run that was killed has left.
        caller._transport.publish(Message(f"{caller.base}/models/gone/ready", b"{}", qos=1, retain=True))
        async with serving(broker, plane, thing):
            await until(lambda: caller.retained.get("/models/colours/ready") == {"name": "colours", "ready": True})
            assert caller.retained[""]["name"] == "verge"
            assert caller.retained["/models/colours"] == OpenInference(plane).model("colours").metadata()
            await until(lambda: caller.retained["/models/gone/ready"] is None)
            await load(plane, "a/b", onnx_colours(tmp_path / "other.onnx"))
            await until(lambda: caller.retained.get("/models/a_b/ready") == {"name": "a/b", "ready": True})
            assert told(await caller.ask(plain(), "models/a_b/infer"))[1]["model_name"] == "a/b"
            await plane.unload("a/b")
            await until(lambda: caller.retained["/models/a_b/ready"] is caller.retained["/models/a_b"] is None)
        await until(lambda: not any(caller.retained.values()))


async def test_a_request_that_may_not_be_answered_is_dropped_and_counted(
    broker: Broker, plane: InferencePlane, thing: str
) -> None:
    reported: list[Any] = []
    bounds = MqttBounds(at_once=1)
    answers = AnswerTopics((f"{thing}/answers/#", f"verge/{thing}/#"))
    async with (
        serving(broker, plane, thing, bounds=bounds, answers=answers, report=reported.append) as server,
        calling(broker, thing) as caller,
    ):
        caller.send(plain(), response_topic=None)
        await until(lambda: server.dropped["no-response-topic"] == 1)
        caller.send(plain(), response_topic=f"verge/{thing}/v2/models/colours/infer")
        caller.send(plain(), response_topic="somewhere/else")
        await until(lambda: server.dropped["response-topic-refused"] == 2)
        caller.send(plain())
        caller.send(plain())
        answers_of = await caller.answers.wait(2)
        assert {told(one)[0] for one in answers_of} == {"200", "503"}
        assert server.dropped["busy"] == 1
        server._told()
        assert reported[-1] == {"no-response-topic": 1, "response-topic-refused": 2, "busy": 1}


async def test_a_request_that_expires_before_its_answer_gets_none(
    broker: Broker, plane: InferencePlane, thing: str
) -> None:
    async with serving(broker, plane, thing) as server:
        server._on_request(Message(f"verge/{thing}/v2/models/colours/infer", plain(), response_topic="a", retain=True))
        assert server.dropped == {"retained-request": 1}
        message = Message(f"verge/{thing}/v2/models/colours/infer", plain(), response_topic=f"{thing}/answers/1")
        server._on_request(Message(message.topic, message.payload, response_topic=message.response_topic, expiry_s=0))
        await until(lambda: not server._working)
        assert server.dropped["expired"] == 1
        assert server._held == 0
