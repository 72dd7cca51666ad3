"""Local shadows beside IoT Core's, over a real mosquitto with a stand-in for the cloud's shadow service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.greengrass.services.shadows.errors import ShadowMissingError
from agent.greengrass.services.shadows.manager import ShadowManager
from agent.greengrass.services.shadows.names import ShadowKey
from agent.greengrass.services.shadows.options import options_of
from agent.greengrass.services.shadows.sync import Synchroniser
from agent.mqtt import factory
from agent.mqtt.transport import Transport
from tests.support.broker import Broker
from tests.support.inbox import connected
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.shadows import CloudShadows
from tests.support.until import PATIENCE_S, until

CLASSIC = {"synchronize": {"coreThing": {"classic": True}}}
GENEROUS = {"maxLocalRequestsPerSecondPerThing": 1000, "maxTotalLocalRequestsRate": 1000}


@asynccontextmanager
async def linked(broker: Broker, name: str) -> AsyncIterator[Transport]:
    async with factory.create(name, broker.options) as transport:
        await connected(transport)
        yield transport


@asynccontextmanager
async def device(
    path: Path, thing: str, transport: Transport, configuration: dict[str, Any] | None = None
) -> AsyncIterator[ShadowManager]:
    """A device whose shadows are synchronised; what it tells on local topics is its ``told``."""
    told: list[str] = []
    shadows = ShadowManager(path, thing, lambda topic, _payload: told.append(topic), transport)
    shadows.told = told  # type: ignore[attr-defined]
    await shadows.apply({"rateLimits": GENEROUS, **(CLASSIC if configuration is None else configuration)})
    try:
        yield shadows
    finally:
        await shadows.apply(None)


@pytest.fixture
async def link(broker: Broker, thing: str) -> AsyncIterator[Transport]:
    async with linked(broker, f"device-{thing}") as transport:
        yield transport


@pytest.fixture
async def cloud(broker: Broker, thing: str) -> AsyncIterator[CloudShadows]:
    async with linked(broker, f"cloud-{thing}") as transport:
        yield CloudShadows(transport)


async def local(shadows: ShadowManager, thing: str, shadow: str = "") -> Any:
    try:
        state = json.loads(await shadows.get(ShadowKey(thing, shadow)))["state"]
    except ShadowMissingError:
        return None
    state.pop("delta", None)
    return state


async def put(shadows: ShadowManager, thing: str, state: Any, shadow: str = "") -> None:
    await shadows.update(ShadowKey(thing, shadow), json.dumps({"state": state}).encode())


def one(value: Any, section: str = "reported") -> dict[str, Any]:
    return {section: {"a": value}}


async def settled(shadows: ShadowManager, cloud: CloudShadows, thing: str, state: Any, shadow: str = "") -> None:
    """Both sides are so, and nothing more is due."""

    async def both() -> bool:
        here = await local(shadows, thing, shadow)
        return here == cloud.state(thing, shadow) == state and shadows.due == 0

    await until(both, why=lambda: (cloud.shadows, cloud.asked))


async def test_a_shadow_of_the_device_comes_to_the_cloud(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await put(shadows, thing, one(1))
        await settled(shadows, cloud, thing, one(1))
        await put(shadows, thing, {"reported": {"a": None, "b": {"c": 2}}})
        await settled(shadows, cloud, thing, {"reported": {"b": {"c": 2}}})
        await put(shadows, thing, None)
        await settled(shadows, cloud, thing, {})


async def test_a_shadow_of_the_cloud_comes_to_the_device_and_is_told_there(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    cloud.put(thing, "", one(1, "desired"))
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await settled(shadows, cloud, thing, one(1, "desired"))
        cloud.put(thing, "", one(2, "desired"))
        await settled(shadows, cloud, thing, one(2, "desired"))
        assert shadows.told.count(f"$aws/things/{thing}/shadow/update/delta") == 2  # type: ignore[attr-defined]


async def test_a_known_copy_is_kept_up_without_asking(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    async with device(tmp_path / "s.db", thing, link) as shadows:
        for value in range(1, 5):
            await put(shadows, thing, one(value))
            await settled(shadows, cloud, thing, {**one(value), **({"desired": {"a": value - 1}} if value > 1 else {})})
            cloud.put(thing, "", one(value, "desired"))
            await settled(shadows, cloud, thing, {**one(value), **one(value, "desired")})
        assert [operation for operation, _ in cloud.asked].count("get") == 1
        assert len([request for operation, request in cloud.asked if operation == "update"]) == 4


async def test_a_deletion_comes_to_the_other_side(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await put(shadows, thing, one(1))
        await settled(shadows, cloud, thing, one(1))
        cloud.remove(thing)
        await settled(shadows, cloud, thing, None)
        await put(shadows, thing, one(2))
        await settled(shadows, cloud, thing, one(2))
        await shadows.delete(ShadowKey(thing))
        await settled(shadows, cloud, thing, None)
        cloud.put(thing, "", one(3))
        await settled(shadows, cloud, thing, one(3))


async def test_what_both_changed_while_the_device_was_away_is_merged(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    both = {"desired": {"a": 1, "gone": 1}, "reported": {"a": 1, "left": 1}}
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await put(shadows, thing, both)
        await settled(shadows, cloud, thing, both)
    shadows = ShadowManager(tmp_path / "s.db", thing, lambda *_: None)  # without a link
    await shadows.apply(CLASSIC)
    await put(shadows, thing, {"desired": {"a": 2}, "reported": {"a": 2, "left": None}})
    await shadows.apply(None)
    cloud.put(thing, "", {"desired": {"a": 3, "gone": None}, "reported": {"a": 3}})
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await settled(shadows, cloud, thing, {"desired": {"a": 3}, "reported": {"a": 2}})


async def test_updates_of_both_sides_at_once_end_in_one_state(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    async with device(tmp_path / "s.db", thing, link) as shadows:
        for value in range(30):
            await put(shadows, thing, {"reported": {"a": value, f"r{value % 3}": value}})
            cloud.put(thing, "", {"desired": {"a": value, f"d{value % 3}": value}})
        await settled(
            shadows, cloud, thing,
            {"desired": {"a": 29, "d0": 27, "d1": 28, "d2": 29}, "reported": {"a": 29, "r0": 27, "r1": 28, "r2": 29}},
        )  # fmt: skip


async def test_what_changes_while_the_link_is_down_waits_and_comes_when_it_is_back(
    tmp_path: Path, thing: str, broker: Broker
) -> None:
    with Broker() as own:
        async with linked(own, "device") as link, linked(own, "cloud") as other:
            cloud = CloudShadows(other)
            async with device(tmp_path / "s.db", thing, link) as shadows:
                await put(shadows, thing, one(1))
                await settled(shadows, cloud, thing, one(1))
                own.kill()
                await until(lambda: not link.state.connected)
                for value in range(2, 20):
                    await put(shadows, thing, one(value))
                assert shadows.due == 1
                cloud.put(thing, "", one(5, "desired"))
                own.start()
                await settled(shadows, cloud, thing, {**one(19), **one(5, "desired")})


async def test_named_shadows_and_those_of_other_things_are_synchronised_and_no_others(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    other = f"{thing}-other"
    wanted = {
        "synchronize": {
            "coreThing": {"classic": False, "namedShadows": ["n"]},
            "shadowDocumentsMap": {other: {"classic": True}},
        }
    }
    async with device(tmp_path / "s.db", thing, link, wanted) as shadows:
        await put(shadows, thing, one(1))
        await put(shadows, thing, one(2), "other")
        await put(shadows, thing, one(3), "n")
        await put(shadows, other, one(4))
        await settled(shadows, cloud, thing, one(3), "n")
        await settled(shadows, cloud, other, one(4))
        cloud.put(thing, "other", one(9))
        cloud.put(thing, "n", one(5, "desired"))
        await settled(shadows, cloud, thing, {**one(3), **one(5, "desired")}, "n")
        assert (await local(shadows, thing), await local(shadows, thing, "other")) == (one(1), one(2))
        assert cloud.state(thing) is None


async def test_to_the_cloud_only_nothing_of_the_clouds_comes(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    wanted = {"synchronize": {**CLASSIC["synchronize"], "direction": "deviceToCloud"}}
    async with device(tmp_path / "s.db", thing, link, wanted) as shadows:
        await put(shadows, thing, one(1))
        await until(lambda: cloud.state(thing) == one(1))
        cloud.put(thing, "", {"reported": {"a": 7}, "desired": {"own": 1}})
        await put(shadows, thing, {"reported": {"b": 2}})
        await until(lambda: cloud.state(thing) == {"reported": {"a": 1, "b": 2}, "desired": {"own": 1}})
        assert await local(shadows, thing) == {"reported": {"a": 1, "b": 2}}
        await shadows.delete(ShadowKey(thing))
        await until(lambda: cloud.state(thing) is None)


async def test_to_the_device_only_nothing_of_the_devices_goes(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    wanted = {"synchronize": {**CLASSIC["synchronize"], "direction": "cloudToDevice"}}
    cloud.put(thing, "", one(1, "desired"))
    async with device(tmp_path / "s.db", thing, link, wanted) as shadows:
        await until(lambda: local(shadows, thing))
        await put(shadows, thing, one(5))
        cloud.put(thing, "", one(2, "desired"))

        async def there() -> bool:
            return await local(shadows, thing) == {**one(5), **one(2, "desired")}

        await until(there)
        assert cloud.state(thing) == one(2, "desired")
        cloud.remove(thing)

        async def gone() -> bool:
            return await local(shadows, thing) is None

        await until(gone)
        assert {operation for operation, _ in cloud.asked} == {"get"}


async def test_once_in_a_period_what_changed_is_sent_as_one(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    wanted = {**CLASSIC, "strategy": {"type": "periodic", "delay": 1}}
    async with device(tmp_path / "s.db", thing, link, wanted) as shadows:
        await until(lambda: cloud.asked and shadows.due == 0)
        for value in range(20):
            await put(shadows, thing, one(value))
        await settled(shadows, cloud, thing, one(19))
        assert len([operation for operation, _ in cloud.asked if operation == "update"]) == 1


async def test_what_the_cloud_refuses_waits_for_the_next_change(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows, caplog: pytest.LogCaptureFixture
) -> None:
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await put(shadows, thing, one(1))
        await settled(shadows, cloud, thing, one(1))
        cloud.refuses = {"code": 413, "message": "The payload exceeds the maximum size allowed"}
        await put(shadows, thing, one(2))
        await until(lambda: "IoT Core answers 413" in caplog.text)
        assert shadows.due == 0
        cloud.refuses = None
        await put(shadows, thing, one(3))
        await settled(shadows, cloud, thing, one(3))


async def test_an_answer_that_does_not_come_is_asked_for_again(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    cloud.refuses = {"code": 503, "message": "Service unavailable"}
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await put(shadows, thing, one(1))
        await until(lambda: len(cloud.asked) >= 2)
        cloud.refuses = None
        await settled(shadows, cloud, thing, one(1))


async def test_a_cloud_that_keeps_what_is_empty_is_no_reason_to_go_on(
    tmp_path: Path, thing: str, link: Transport, cloud: CloudShadows
) -> None:
    cloud.put(thing, "", {"desired": {"a": 1, "empty": {}}})
    async with device(tmp_path / "s.db", thing, link) as shadows:
        await until(lambda: local(shadows, thing))
        await until(lambda: shadows.due == 0)
        assert await local(shadows, thing) == one(1, "desired")
        assert json.loads(await shadows.get(ShadowKey(thing)))["version"] == 1
        assert [operation for operation, _ in cloud.asked] == ["get"]


async def test_a_stop_that_comes_with_an_answer_is_a_stop(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with (
        MemoryTransport(bus, "link") as link,
        MemoryTransport(bus, "cloud") as other,
        device(tmp_path / "s.db", "t", link, {}) as shadows,
    ):
        CloudShadows(other)
        sync = Synchroniser(link, shadows, options_of(CLASSIC, "t"))
        running = asyncio.create_task(sync.run())
        await until(lambda: sync.due)
        link.subscribe("$aws/things/t/shadow/get/+", lambda _answer: running.cancel())
        await asyncio.wait((running,), timeout=PATIENCE_S)
        assert running.cancelled()
