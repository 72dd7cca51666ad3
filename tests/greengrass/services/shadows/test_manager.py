"""The shadow manager: requests, what is told on the shadow's topics, limits, pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.greengrass.errors import DeploymentError
from agent.greengrass.services.shadows.errors import (
    ShadowConflictError,
    ShadowError,
    ShadowMissingError,
    ShadowRequestError,
    ShadowServiceMissingError,
    ShadowThrottledError,
)
from agent.greengrass.services.shadows.manager import ShadowManager
from agent.greengrass.services.shadows.names import ShadowKey
from tests.support.until import until

KEY = ShadowKey("thing", "one")
PREFIX = "$aws/things/thing/shadow/name/one"
NOW = 1_700_000_000


class Bus:
    """Local pub/sub as far as a shadow manager sees it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def publish(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, json.loads(payload)))

    @property
    def tails(self) -> list[str]:
        return [topic.removeprefix(f"{PREFIX}/") for topic, _ in self.messages]

    def last(self, tail: str) -> dict[str, Any]:
        return [said for topic, said in self.messages if topic == f"{PREFIX}/{tail}"][-1]


@asynccontextmanager
async def manager(tmp_path: Path, bus: Bus, **configuration: Any) -> AsyncIterator[ShadowManager]:
    made = ShadowManager(tmp_path / "shadows.db", "core", bus.publish, now_s=lambda: NOW + 0.5)
    await made.apply(configuration)
    try:
        yield made
    finally:
        await made.apply(None)


@pytest.fixture
def bus() -> Bus:
    return Bus()


def state(**reported: Any) -> bytes:
    return json.dumps({"state": {"reported": reported}}).encode()


async def test_an_update_is_answered_and_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        answer = await shadows.update(KEY, b'{"state":{"desired":{"on":true}},"clientToken":"t"}')
        assert json.loads(answer) == bus.last("update/accepted")
        assert bus.last("update/accepted") == {
            "version": 1, "clientToken": "t", "timestamp": NOW, "state": {"desired": {"on": True}},
            "metadata": {"desired": {"on": {"timestamp": NOW}}},
        }  # fmt: skip
        assert bus.last("update/delta")["state"] == {"on": True}
        assert bus.last("update/documents")["current"]["version"] == 1
        assert bus.tails == ["update/delta", "update/documents", "update/accepted"]


async def test_where_nothing_more_is_desired_no_delta_is_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.update(KEY, state(on=True))
        assert bus.tails == ["update/documents", "update/accepted"]


async def test_a_get_is_answered_and_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.update(KEY, state(on=True))
        answer = json.loads(await shadows.get(KEY))
        assert answer == bus.last("get/accepted")
        assert answer == {
            "state": {"reported": {"on": True}}, "metadata": {"reported": {"on": {"timestamp": NOW}}}, "version": 1,
            "timestamp": NOW,
        }  # fmt: skip


async def test_a_deletion_is_answered_with_nothing_and_told_with_the_version(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.update(KEY, state(on=True))
        assert await shadows.delete(KEY) == b""
        assert bus.last("delete/accepted") == {"version": 1, "timestamp": NOW}
        with pytest.raises(ShadowMissingError, match="No shadow exists with name: one"):
            await shadows.get(KEY)


@pytest.mark.parametrize(
    ("operation", "payload", "kind", "status"),
    [
        ("get", b"", ShadowMissingError, 404),
        ("delete", b"", ShadowMissingError, 404),
        ("update", b"{}", ShadowRequestError, 400),
        ("update", b'{"state":{"desired":{"a":"' + b"x" * 9000 + b'"}}}', ShadowRequestError, 413),
        ("update", b'{"state":{},"version":3,"clientToken":"t"}', ShadowRequestError, 400),
    ],
)
async def test_what_is_refused_is_told_with_its_code(
    tmp_path: Path, bus: Bus, operation: str, payload: bytes, kind: type[ShadowError], status: int
) -> None:
    async with manager(tmp_path, bus) as shadows:
        with pytest.raises(kind) as caught:
            await (shadows.update(KEY, payload) if operation == "update" else getattr(shadows, operation)(KEY))
        assert caught.value.status == status
        assert bus.tails == [f"{operation}/rejected"]
        said = bus.last(f"{operation}/rejected")
        assert (said["code"], said["message"], said["timestamp"]) == (status, caught.value.message, NOW)
        assert said.get("clientToken") == ("t" if b"clientToken" in payload else None)


async def test_a_conflict_is_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.update(KEY, state(on=True))
        with pytest.raises(ShadowConflictError):
            await shadows.update(KEY, b'{"state":{},"version":9,"clientToken":"t"}')
        assert bus.last("update/rejected") == {
            "timestamp": NOW, "clientToken": "t", "code": 409, "message": "Version conflict",
        }  # fmt: skip


async def test_what_is_not_authorised_is_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        shadows.refuse(KEY, "update")
        assert bus.last("update/rejected") == {"timestamp": NOW, "code": 401, "message": "Unauthorized"}


async def test_shadows_are_there_when_the_component_is_deployed_again(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.update(KEY, state(on=True))
    async with manager(tmp_path, bus) as shadows:
        assert json.loads(await shadows.get(KEY))["version"] == 1


async def test_without_the_component_there_are_no_shadows(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        await shadows.apply(None)
        with pytest.raises(ShadowServiceMissingError, match="ShadowManager is not deployed"):
            await shadows.get(KEY)
        assert not shadows.handle(f"{PREFIX}/get", b"", "com.example.Reader")


async def test_a_configuration_that_cannot_be_used_leaves_everything_as_it_was(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        with pytest.raises(DeploymentError, match="shadowDocumentSizeLimitBytes"):
            await shadows.apply({"shadowDocumentSizeLimitBytes": -5})
        assert json.loads(await shadows.update(KEY, state(on=True)))["version"] == 1


async def test_a_larger_document_is_taken_where_the_configuration_says_so(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus, shadowDocumentSizeLimitBytes=30_720) as shadows:
        await shadows.update(KEY, state(text="x" * 20_000))
        await shadows.apply({})
        with pytest.raises(ShadowRequestError, match="maximum size"):
            await shadows.update(KEY, state(more="x"))


async def test_an_update_whose_caller_has_gone_is_done_and_told(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        caller = asyncio.create_task(shadows.update(KEY, state(on=True)))
        await asyncio.sleep(0)
        caller.cancel()
        await until(lambda: "update/accepted" in bus.tails)
        assert json.loads(await shadows.get(KEY))["version"] == 1


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_of_one_thing_so_many_requests_are_taken_in_a_second(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus, rateLimits={"maxLocalRequestsPerSecondPerThing": 3}) as shadows:
        for _ in range(3):
            await shadows.update(KEY, state(on=True))
        with pytest.raises(ShadowThrottledError, match="Too Many Requests"):
            await shadows.get(KEY)
        assert bus.last("get/rejected")["code"] == 429
        assert shadows.counts["throttled"] == 1
        await shadows.update(ShadowKey("other"), state(on=True))


async def test_in_all_so_many_requests_are_taken_in_a_second(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus, rateLimits={"maxTotalLocalRequestsRate": 3}) as shadows:
        for number in range(3):
            await shadows.update(ShadowKey(f"thing-{number}"), state(on=True))
        with pytest.raises(ShadowThrottledError):
            await shadows.update(ShadowKey("thing-3"), state(on=True))


# -- local pub/sub -----------------------------------------------------------------------------------------------------


async def test_requests_over_local_pubsub_are_done_in_their_order_and_answered_there(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        for tail, payload in (
            ("update", b'{"state":{"reported":{"a":1}},"clientToken":"u"}'), ("get", b'{"clientToken":"g"}'),
            ("get", b""), ("delete", b""), ("get", b"no JSON"),
        ):  # fmt: skip
            assert shadows.handle(f"{PREFIX}/{tail}", payload, "com.example.Writer")
        await until(lambda: "get/rejected" in bus.tails)
        answers = [tail for tail in bus.tails if tail.endswith(("accepted", "rejected"))]
        assert answers == ["update/accepted", "get/accepted", "get/accepted", "delete/accepted", "get/rejected"]
        assert [said.get("clientToken") for topic, said in bus.messages if topic.endswith("get/accepted")] == [
            "g",
            None,
        ]


@pytest.mark.parametrize(
    "topic", [f"{PREFIX}/update/accepted", f"{PREFIX}/update/delta", "$aws/things/thing/jobs/get", "a/b", PREFIX]
)
async def test_other_messages_are_none_of_its(tmp_path: Path, bus: Bus, topic: str) -> None:
    async with manager(tmp_path, bus) as shadows:
        assert not shadows.handle(topic, b"{}", "com.example.Writer")
    assert bus.messages == []


async def test_a_request_for_a_name_that_cannot_be_is_logged(
    tmp_path: Path, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with manager(tmp_path, bus) as shadows:
        with caplog.at_level("INFO"):
            assert shadows.handle("$aws/things/a b/shadow/get", b"", "com.example.Writer")
            await until(lambda: "ThingName must match" in caplog.text)
    assert bus.messages == []


async def test_more_requests_than_can_wait_are_dropped_and_counted(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus) as shadows:
        for _ in range(300):
            assert shadows.handle(f"{PREFIX}/get", b"", "com.example.Writer")
        assert shadows.counts["dropped"] == 44
        await until(lambda: len(bus.messages) == 256)
        assert shadows.handle(f"{PREFIX}/get", b"", "com.example.Writer")
        await until(lambda: len(bus.messages) == 257)


# -- pages -------------------------------------------------------------------------------------------------------------


async def test_named_shadows_come_in_pages(tmp_path: Path, bus: Bus) -> None:
    async with manager(tmp_path, bus, rateLimits={"maxLocalRequestsPerSecondPerThing": 100}) as shadows:
        for number in range(5):
            await shadows.update(ShadowKey("thing", f"s{number}"), state(on=True))
        first = await shadows.list("thing", "com.example.Reader", 3)
        assert (first.names, first.timestamp_s) == (("s0", "s1", "s2"), NOW + 0.5)
        second = await shadows.list("thing", "com.example.Reader", 3, first.next_token)
        assert (second.names, second.next_token) == (("s3", "s4"), None)
        assert (await shadows.list("nothing", "com.example.Reader")).names == ()
        for caller, thing, token in (
            ("com.example.Other", "thing", first.next_token), ("com.example.Reader", "other", first.next_token),
            ("com.example.Reader", "thing", "s2"), ("com.example.Reader", "thing", "%%%"),
        ):  # fmt: skip
            with pytest.raises(ShadowRequestError, match="Invalid nextToken"):
                await shadows.list(thing, caller, 3, token)


@pytest.mark.parametrize("size", [0, 101, -1])
async def test_a_page_has_between_one_and_a_hundred_names(tmp_path: Path, bus: Bus, size: int) -> None:
    async with manager(tmp_path, bus) as shadows:
        with pytest.raises(ShadowRequestError, match="between 1 and 100"):
            await shadows.list("thing", "com.example.Reader", size)


@pytest.mark.parametrize(
    ("thing", "shadow", "message"),
    [
        ("", "a", "ThingName is missing"), (None, None, "ThingName is missing"),
        ("t" * 129, "", "ThingName has a maximum length of 128"), ("t/t", "", "ThingName must match pattern"),
        ("t", "s" * 65, "ShadowName has a maximum length of 64"), ("t", "s s", "ShadowName must match pattern"),
    ],
)  # fmt: skip
def test_names_are_as_iot_core_takes_them(thing: str | None, shadow: str | None, message: str) -> None:
    with pytest.raises(ShadowRequestError, match=message):
        ShadowKey.of(thing, shadow)
