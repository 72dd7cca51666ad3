"""Configurations over the socket, with Amazon's SDK in a process of its own and a real ledger behind."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.greengrass.deployments.configurations import Configurations, Configured
from agent.greengrass.deployments.ledger import Ledger
from agent.greengrass.ipc.configuration import ConfigurationOperations
from agent.greengrass.recipes.configuration import Tree, update
from tests.support.ipc import CLI_TOKEN, COMPONENT, lines, raw, sdk, serving, shown
from tests.support.until import until

OTHER = "com.example.Other"
STORED = {
    "Mode": "slow", "count": 3, "ratio": 3.0, "large": 2**60, "nothing": None, "tags": ["a", 1],
    "network": {"Port": 80, "tls": True}, "accessControl": {"aws.greengrass.ipc.pubsub": {}},
}  # fmt: skip


@dataclass
class Device:
    """A server of configurations."""

    path: Path
    ledger: Path
    configurations: Configurations

    def plain(self, component: str = COMPONENT) -> dict[str, object]:
        tree = self.configurations.get(component)
        assert tree is not None
        return tree.to_plain()

    @property
    def watched(self) -> int:
        return sum(map(len, self.configurations._watched.values()))


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    configurations = Configurations()
    async with Ledger(tmp_path / "ledger.db") as ledger:
        trees = {COMPONENT: Tree.of(STORED, 1_000_000), OTHER: Tree.of({"theirs": {"a": 1}}, 1_000_000)}
        configurations.open(trees, ledger.configure)
        path = tmp_path / "ipc.socket"
        async with serving(path, ConfigurationOperations(configurations).operations):
            yield Device(path, tmp_path / "ledger.db", configurations)
        await configurations.close()


V2 = "client = GreengrassCoreIPCClientV2()\n"
V1 = """
first = awsiot.greengrasscoreipc.connect()
def answer(operation, request):
    operation.activate(request)
    return operation.get_response().result(10)
"""


async def test_a_component_reads_its_own_configuration_and_any_other_s(device: Device) -> None:
    said = await lines(
        device.path,
        V2 + V1 + f"""
def read(**named):
    got = client.get_configuration(**named)
    say(got.component_name, got.value)
read()
read(key_path=[])
read(component_name="{OTHER}")
read(key_path=["network"])
read(key_path=["NETWORK", "port"])
read(key_path=["mode"])
read(key_path=["nothing"])
read(component_name="aws.greengrass.Nucleus")
theirs = model.GetConfigurationRequest(component_name="{OTHER}", key_path=["theirs"])
got = answer(first.new_get_configuration(), theirs)
say(got.component_name, got.value)
""",
    )  # fmt: skip
    assert said == [
        [COMPONENT, STORED],
        [COMPONENT, STORED],
        [OTHER, {"theirs": {"a": 1}}],
        [COMPONENT, {"Port": 80, "tls": True}],
        [COMPONENT, {"Port": 80}],
        [COMPONENT, {"Mode": "slow"}],
        [COMPONENT, {"nothing": None}],
        ["aws.greengrass.Nucleus", {}],
        [OTHER, {"a": 1}],
    ]
    assert [type(said[0][1][key]) for key in ("count", "ratio", "large")] == [int, float, int]


async def test_what_is_not_there_is_neither_read_nor_watched(device: Device) -> None:
    said = await lines(
        device.path,
        V2 + """
def watch(**named):
    client.subscribe_to_configuration_update(on_stream_event=print, **named)
for call in (client.get_configuration, watch):
    say(*failure(call, component_name="com.example.Nobody"))
    say(*failure(call, component_name=""))
    say(*failure(call, key_path=["none"]))
    say(*failure(call, key_path=["tags", "0"]))
""",
    )  # fmt: skip
    nobody = ["ResourceNotFoundError", "there is no component com.example.Nobody here"]
    nameless = ["ResourceNotFoundError", "there is no component  here"]
    keys = [
        ["ResourceNotFoundError", f"there is no {key} in the configuration of {COMPONENT}"]
        for key in ("none", "tags/0")
    ]
    assert said == [nobody, nameless, *keys] * 2
    assert device.watched == 0


async def test_a_component_updates_its_own_configuration_with_both_clients(device: Device) -> None:
    said = await lines(
        device.path,
        V2 + V1 + """
import datetime
now = datetime.datetime.now(datetime.timezone.utc)
say(str(client.update_configuration(timestamp=now, value_to_merge={"Mode": "fast", "count": 4})))
client.update_configuration(key_path=["network"], timestamp=now, value_to_merge={"port": 81})
client.update_configuration(key_path=["new", "er"], timestamp=now, value_to_merge={"x": [1, 2.5, None]})
later = now + datetime.timedelta(seconds=1)
answer(first.new_update_configuration(), model.UpdateConfigurationRequest(
    key_path=["network"], timestamp=later, value_to_merge={"tls": False}))
say(client.get_configuration().value)
""",
    )  # fmt: skip
    expected = STORED | {
        "Mode": "fast", "count": 4, "network": {"Port": 81, "tls": False}, "new": {"er": {"x": [1, 2.5, None]}},
    }  # fmt: skip
    assert said[-1] == [expected]
    assert device.plain() == expected


async def test_an_update_is_answered_with_every_error_that_its_model_knows(device: Device) -> None:
    said = await lines(
        device.path,
        V2 + """
import datetime
now = datetime.datetime.now(datetime.timezone.utc)
old = datetime.datetime.fromtimestamp(1, datetime.timezone.utc)
def refused(at=now, value={"a": 1}, path=None):
    say(*failure(client.update_configuration, timestamp=at, value_to_merge=value, key_path=path))
refused(at=None)
refused(value=None)
refused(path=["AccessControl"])
refused(value={"accesscontrol": {}})
refused(path=["Mode", "inside"])
refused(at=old, value={"Mode": "older", "fresh": 1})
refused(path=["a"] * 40)
""",
    )  # fmt: skip
    assert [one[0] for one in said] == [
        *["InvalidArgumentsError"] * 4, "ConflictError", "FailedUpdateConditionCheckError", "InvalidArgumentsError",
    ]  # fmt: skip
    assert device.plain() == STORED | {"fresh": 1}


async def test_a_request_that_no_sdk_sends_is_answered_in_the_model_s_words(device: Device) -> None:
    async with raw(device.path) as client:
        await client.connect()
        for wrong in (
            {"timestamp": 1e300, "valueToMerge": {}},
            {"timestamp": "yesterday", "valueToMerge": {}},
            {"timestamp": 1, "valueToMerge": 5},
            {"timestamp": 1, "valueToMerge": {}, "keyPath": "a"},
        ):
            shape, payload = await client.call("UpdateConfiguration", wrong)
            assert (shape, payload["_errorCode"]) == ("InvalidArgumentsError", "InvalidArgumentsError")
        at = {"timestamp": 2_000.5}
        shape, payload = await client.call("UpdateConfiguration", at | {"valueToMerge": 2**70, "keyPath": ["count"]})
        assert (shape, payload) == ("UpdateConfigurationResponse", {})
        shape, payload = await client.call("GetConfiguration", {"keyPath": ["count"]})
        assert payload == {"componentName": COMPONENT, "value": {"count": 2**70}}


async def test_a_command_line_has_no_configuration_of_its_own_and_may_read(device: Device) -> None:
    said = await lines(
        device.path,
        V2 + f"""
import datetime
say(client.get_configuration(component_name="{OTHER}").value)
say(failure(client.get_configuration)[0])
say(failure(client.update_configuration, timestamp=datetime.datetime.now(), value_to_merge={{}})[0])
""",
        CLI_TOKEN,
    )  # fmt: skip
    assert said == [[{"theirs": {"a": 1}}], ["ResourceNotFoundError"], ["InvalidArgumentsError"]]


WATCHING = """
class Handler(awsiot.greengrasscoreipc.client.SubscribeToConfigurationUpdateStreamHandler):
    def on_stream_event(self, event):
        told = event.configuration_update_event
        say("v1", told.component_name, told.key_path)
def on_event(event):
    told = event.configuration_update_event
    say("v2", told.component_name, told.key_path)
"""


async def test_what_changes_is_announced_to_whoever_watches_it_and_not_what_only_got_newer(device: Device) -> None:
    script = (
        V2
        + V1
        + WATCHING
        + """
import datetime
def at(later):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=later)
response, all_of_it = client.subscribe_to_configuration_update(on_stream_event=on_event)
say(type(response).__name__)
watching = first.new_subscribe_to_configuration_update(Handler())
answer(watching, model.SubscribeToConfigurationUpdateRequest(key_path=["NETWORK"]))
say("watching")
client.update_configuration(timestamp=at(0), value_to_merge={"Mode": "slow", "network": {"PORT": 81}})
client.update_configuration(timestamp=at(1), value_to_merge={"network": {"port": 81}})
said()
all_of_it.close().result(10)
client.update_configuration(timestamp=at(2), value_to_merge={"count": 4, "network": {"tls": False}})
said()
"""
    )
    async with sdk(device.path, script) as client:
        assert await client.next() == ["SubscribeToConfigurationUpdateResponse"]
        assert await client.next() == ["watching"]
        first = [await client.next(), await client.next()]
        assert sorted(first) == [[version, COMPONENT, ["network", "Port"]] for version in ("v1", "v2")]
        since = device.configurations.committed[COMPONENT]
        deployed = Configured(
            update(since, ["/network/tls"], {"network": {"tls": 5}}, {"added": 1}, 9_000), since=since
        )
        await device.configurations.switch({COMPONENT: deployed})
        paths = [await client.next() for _ in range(3)]
        assert sorted(paths) == [
            ["v1", COMPONENT, ["network", "tls"]], ["v2", COMPONENT, ["added"]], ["v2", COMPONENT, ["network", "tls"]],
        ]  # fmt: skip
        await client.say("go on")
        assert await client.next() == ["v1", COMPONENT, ["network", "tls"]]
        assert device.watched == 1
        await client.say("end")
        assert await client.end() == 0
    await until(lambda: device.watched == 0)


async def test_another_component_is_watched_from_outside(device: Device) -> None:
    script = (
        V2
        + WATCHING
        + f"""
client.subscribe_to_configuration_update(component_name="{OTHER}", on_stream_event=on_event)
say("watching")
said()
"""
    )
    async with sdk(device.path, script) as client:
        assert await client.next() == ["watching"]
        await device.configurations.update(OTHER, ["theirs"], {"a": 2}, 2_000_000, 2_000_000)
        assert await client.next() == ["v2", OTHER, ["theirs", "a"]]


async def test_what_a_disk_does_not_take_is_a_service_error_and_is_not_live(device: Device) -> None:
    with closing(sqlite3.connect(device.ledger)) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON configurations BEGIN SELECT RAISE(ABORT, 'full'); END")
    (said,) = await lines(
        device.path,
        V2 + """
import datetime
say(*failure(client.update_configuration, timestamp=datetime.datetime.now(), value_to_merge={"Mode": "fast"}))
""",
    )  # fmt: skip
    assert said[0] == "ServiceError"
    assert "cannot be written: full" in said[1]
    assert device.plain() == STORED


async def test_a_hundred_updates_at_once_are_done_in_their_order(device: Device) -> None:
    async with raw(device.path) as client:
        await client.connect()
        for number in range(100):
            await client.request(
                "UpdateConfiguration", {"timestamp": 2_000 + number, "keyPath": ["count"], "valueToMerge": number}
            )
        answers = [shown(await client.next()) for _ in range(100)]
    assert answers == [("UpdateConfigurationResponse", {})] * 100
    assert device.plain()["count"] == 99
