"""The live configurations: what a component's own update does, who is informed, and what a deployment leaves of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import UnreachableError
from agent.greengrass.deployments.configurations import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_WAITING,
    ConfigurationBusyError,
    ConfigurationConditionError,
    ConfigurationConflictError,
    Configurations,
    ConfigurationUpdateError,
    Configured,
)
from agent.greengrass.deployments.ledger import Ledger, LedgerError
from agent.greengrass.recipes.configuration import Path, Tree, update
from agent.greengrass.recipes.variables import Context, Values

NOW = 5_000
STORED = {"Mode": "slow", "network": {"port": 80, "tls": True}, "tags": ["a"]}


class Disk:
    """A ledger's part in it: keeps what is written, one write at a time, and can be held or made to fail."""

    def __init__(self) -> None:
        self.writes: list[Mapping[str, bytes]] = []
        self.error: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, configurations: Mapping[str, bytes]) -> None:
        await self.free.wait()
        if self.error is not None:
            raise self.error
        self.writes.append(configurations)

    def plain(self, component: str) -> dict[str, Any]:
        return Tree.load(self.writes[-1][component]).to_plain()


class Live:
    """Configurations at work, with everything that a listener was sent."""

    def __init__(self, stored: Mapping[str, Any] = STORED, at: int = 1_000) -> None:
        self.disk = Disk()
        self.configurations = Configurations()
        self.configurations.open({"app": Tree.of(stored, at)}, self.disk.write)
        self.events: list[Path] = []

    def watch(self, *path: str) -> None:
        self.configurations.watch("app", path, lambda _component, changed: self.events.append(changed))

    async def set(self, path: list[str], value: Any, at: int = 2_000) -> None:
        await self.configurations.update("app", path, value, at, NOW)

    @property
    def plain(self) -> dict[str, Any]:
        tree = self.configurations.get("app")
        assert tree is not None
        return tree.to_plain()


# -- updates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "expected", "events"),
    [
        ([], {"mode": "fast"}, STORED | {"Mode": "fast"}, [("Mode",)]),
        (["network"], {"port": 81}, STORED | {"network": {"port": 81, "tls": True}}, [("network", "port")]),
        (["NETWORK", "Port"], 81, STORED | {"network": {"port": 81, "tls": True}}, [("network", "port")]),
        (["tags"], ["b"], STORED | {"tags": ["b"]}, [("tags",)]),
        (["tags"], {"b": 1}, STORED | {"tags": {"b": 1}}, [("tags", "b")]),
        (["Mode"], None, STORED | {"Mode": None}, [("Mode",)]),
        (["new", "er"], {"x": 1, "y": 2.0}, STORED | {"new": {"er": {"x": 1, "y": 2.0}}},
         [("new", "er", "x"), ("new", "er", "y")]),
        (["new"], {}, STORED | {"new": {}}, [("new",)]),
        (["network"], {}, STORED, []),
        (["network"], {"port": 80}, STORED, []),
        (["network"], {"tls": 1}, STORED | {"network": {"port": 80, "tls": 1}}, [("network", "tls")]),
    ],
)  # fmt: skip
async def test_an_update_is_written_live_and_announced_node_by_node(path, value, expected, events) -> None:
    live = Live()
    live.watch()
    await live.set(path, value)
    assert (live.plain, live.disk.plain("app")) == (expected, expected)
    assert str(live.plain) == str(expected)  # true is not 1
    assert live.events == events


async def test_what_is_new_is_as_old_as_now_and_what_was_there_as_the_request() -> None:
    live = Live()
    await live.set(["new"], 1, at=1)
    await live.set(["Mode"], "fast", at=2_000)
    tree = live.configurations.get("app")
    assert tree is not None
    assert [tree.node((key,)).newest for key in ("new", "Mode")] == [NOW, 2_000]  # type: ignore[union-attr]


async def test_what_is_older_than_what_is_stored_leaves_that_and_the_component_is_informed() -> None:
    live = Live(at=1_000)
    await live.set(["Mode"], "newest", at=9_000)
    live.watch()
    with pytest.raises(ConfigurationConditionError, match="newer"):
        await live.set([], {"mode": "older", "network": {"port": 1}}, at=2_000)
    assert live.plain == {**STORED, "Mode": "newest", "network": {"port": 1, "tls": True}}
    assert live.disk.plain("app") == live.plain
    assert live.events == [("network", "port")]


async def test_a_newer_neighbour_of_what_is_addressed_is_no_condition() -> None:
    live = Live()
    await live.set(["Mode"], "newest", at=9_000)
    await live.set(["network", "port"], 81, at=2_000)
    assert live.plain["network"]["port"] == 81


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["accessControl"], {}),
        (["ACCESSCONTROL", "aws.greengrass.ipc.pubsub"], {}),
        ([], {"accesscontrol": {}}),
        ([], {"mode": 1, "AccessControl": None}),
        ([], 5),
        ([], [1]),
        (["x"], float("nan")),
        (["x"], "\ud800"),
        (["\ud800"], 1),
        (["x"] * (MAX_DEPTH + 1), 1),
        (["x"], "y" * (MAX_BYTES + 1)),
    ],
)
async def test_what_is_no_update_is_refused_and_changes_nothing(path, value) -> None:
    live = Live()
    with pytest.raises(ConfigurationUpdateError):
        await live.set(path, value)
    assert (live.plain, live.disk.writes) == (STORED, [])


@pytest.mark.parametrize("nest", [lambda inner: {"x": inner}, lambda inner: [inner]])
async def test_an_update_makes_a_configuration_so_deep_and_not_deeper(nest) -> None:
    live, value = Live(), 1
    for _ in range(MAX_DEPTH - 1):
        value = nest(value)
    await live.set(["x"], value)
    with pytest.raises(ConfigurationUpdateError, match="deep"):
        await live.set(["x"], nest(value))


async def test_a_configuration_that_a_deployment_made_larger_can_be_updated_as_long_as_it_does_not_grow() -> None:
    live = Live({"large": "x" * MAX_BYTES, "n": 11})
    await live.set(["n"], 12, at=2000)
    with pytest.raises(ConfigurationUpdateError, match="bytes"):
        await live.set(["other"], 1)


async def test_access_control_further_down_is_a_key_as_any_other() -> None:
    live = Live()
    await live.set(["network"], {"accessControl": 1})
    assert live.plain["network"]["accessControl"] == 1


@pytest.mark.parametrize(("path", "value"), [(["Mode", "x"], 1), (["tags", "0"], 1), (["network"], 1)])
async def test_an_update_that_does_not_fit_what_is_stored_is_a_conflict(path, value) -> None:
    live = Live()
    with pytest.raises(ConfigurationConflictError):
        await live.set(path, value)
    assert (live.plain, live.disk.writes) == (STORED, [])


async def test_a_component_that_is_not_deployed_has_nothing_to_update_and_nothing_to_read() -> None:
    live = Live()
    with pytest.raises(ConfigurationUpdateError, match="App is not deployed"):
        await live.configurations.update("App", [], {}, 2_000, NOW)
    assert live.configurations.get("App") is None


async def test_the_agent_s_own_parts_can_be_read_though_nobody_configured_them() -> None:
    live = Live()
    assert live.configurations.get("aws.greengrass.Nucleus") == Tree()
    assert {"app", "aws.greengrass.Nucleus"} <= {*live.configurations.names}


# -- the disk ----------------------------------------------------------------------------------------------------


async def test_what_cannot_be_written_is_not_live_and_the_component_is_informed() -> None:
    live = Live()
    live.watch()
    live.disk.error = LedgerError("the disk is full")
    with pytest.raises(LedgerError, match="full"):
        await live.set(["Mode"], "fast")
    assert (live.plain, live.events) == (STORED, [])
    live.disk.error = None
    await live.set(["Mode"], "fast")
    assert live.plain["Mode"] == "fast"


async def test_nothing_is_live_before_it_is_written() -> None:
    live = Live()
    live.watch()
    live.disk.free.clear()
    setting = asyncio.create_task(live.set(["Mode"], "fast"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (live.plain, live.events, setting.done()) == (STORED, [], False)
    live.disk.free.set()
    await setting
    assert live.plain["Mode"] == "fast"


async def test_updates_are_done_in_the_order_given_and_those_that_wait_are_one_write() -> None:
    live = Live({"n": 0})
    live.watch()
    live.disk.free.clear()
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, 21):
            tasks.create_task(live.set(["n"], number))
        await asyncio.sleep(0)
        live.disk.free.set()
    assert (live.plain, live.events) == ({"n": 20}, [("n",)] * 20)
    assert len(live.disk.writes) <= 2


async def test_one_component_s_flood_is_refused_past_a_bound_and_leaves_room_for_others() -> None:
    live = Live({"n": -1})
    live.configurations.adopt({"other": Configured(Tree())})
    live.disk.free.clear()
    first = asyncio.create_task(live.set(["n"], 0))
    for _ in range(3):  # it is being written now, and waits no more
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(live.set(["n"], number)) for number in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ConfigurationBusyError) as caught:
        await live.set(["n"], -1)
    assert isinstance(caught.value, UnreachableError)
    other = asyncio.create_task(live.configurations.update("other", [], {"n": 1}, 2_000, NOW))
    await asyncio.sleep(0)
    live.disk.free.set()
    await asyncio.gather(first, other, *waiting)
    assert live.plain["n"] == MAX_WAITING - 1


async def test_one_update_that_is_refused_costs_no_other_that_is_written_with_it() -> None:
    live = Live({"n": 0})
    outcomes = await asyncio.gather(
        live.set(["n"], 1), live.set(["n", "x"], 1), live.set(["m"], 2), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), ConfigurationConflictError, type(None)]
    assert live.plain == {"n": 1, "m": 2}


async def test_an_update_whose_sender_has_gone_is_done_all_the_same() -> None:
    live = Live()
    live.disk.free.clear()
    setting = asyncio.create_task(live.set(["Mode"], "fast"))
    await asyncio.sleep(0)
    setting.cancel()
    live.disk.free.set()
    await live.configurations.close()
    assert (live.plain["Mode"], live.disk.plain("app")["Mode"]) == ("fast", "fast")


async def test_what_waits_is_written_at_the_end_and_nothing_is_taken_after_it() -> None:
    live = Live()
    live.disk.free.clear()
    setting = asyncio.create_task(live.set(["Mode"], "fast"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(live.configurations.close())
    await asyncio.sleep(0)
    with pytest.raises(ConfigurationBusyError):
        await live.set(["Mode"], "faster")
    live.disk.free.set()
    await asyncio.gather(setting, closing)
    assert live.disk.plain("app")["Mode"] == "fast"


# -- listeners -----------------------------------------------------------------------------------------------------


async def test_a_listener_is_sent_what_changes_at_or_below_its_path_in_the_stored_spelling() -> None:
    live = Live()
    live.watch("NETWORK")
    live.watch("network", "Port")
    live.watch("network", "tls", "nothing")
    assert live.events == []
    await live.set(["Mode"], "fast")
    await live.set(["network"], {"TLS": False})
    assert live.events == [("network", "tls")]
    await live.set(["network", "port"], 81)
    assert live.events == [("network", "tls"), ("network", "port"), ("network", "port")]


async def test_a_listener_that_is_closed_is_sent_nothing_more_and_others_are() -> None:
    live = Live()
    live.watch()
    close = live.configurations.watch("app", (), lambda *_: live.events.append(("closed",)))
    close()
    close()
    await live.set(["Mode"], "fast")
    assert live.events == [("Mode",)]


async def test_a_listener_of_a_node_that_goes_with_its_container_is_informed_of_its_node() -> None:
    live = Live()
    live.watch()
    live.watch("network", "PORT")
    live.watch("network", "none")
    since = live.configurations.committed["app"]
    await live.configurations.switch({"app": Configured(since.reset(["/network"]), since=since)})
    assert live.events == [("network",), ("network", "port")]


async def test_a_fault_of_one_listener_keeps_neither_the_update_nor_the_others(caplog) -> None:
    live = Live()

    def faulty(component: str, path: Path) -> None:
        raise RuntimeError(f"{component} {path}")

    live.configurations.watch("app", (), faulty)
    live.watch()
    await live.set(["Mode"], "fast")
    assert (live.plain["Mode"], live.events) == ("fast", [("Mode",)])
    assert "a listener to the configuration of app failed" in caplog.text


# -- deployments ---------------------------------------------------------------------------------------------------


def planned(live: Live, merge: Mapping[str, Any], at: int, **more: Any) -> dict[str, Configured]:
    since = live.configurations.committed["app"]
    return {"app": Configured(update(since, (), {}, merge, at), since=since, **more)}


async def commit(live: Live, *names: str) -> dict[str, Tree]:
    async with live.configurations.committing(names) as trees:
        return trees


async def test_a_deployment_s_values_are_live_and_announced_before_it_is_committed_and_put_back_by_a_rollback() -> None:
    live = Live()
    live.watch()
    assert await live.configurations.switch(planned(live, {"Mode": "fast"}, 3_000))
    assert (live.plain["Mode"], live.configurations.committed["app"].to_plain()) == ("fast", STORED)
    await live.configurations.back()
    assert (live.plain, live.events) == (STORED, [("Mode",), ("Mode",)])


async def test_what_changes_only_times_is_no_change() -> None:
    live = Live()
    live.watch()
    assert not await live.configurations.switch(planned(live, STORED, 3_000))
    assert live.events == []


@pytest.mark.parametrize("end", ["commit", "back"])
@pytest.mark.parametrize("when", ["planned", "live"])
async def test_what_a_component_sets_while_a_deployment_runs_is_lost_neither_by_the_commit_nor_by_the_rollback(
    when: str, end: str
) -> None:
    live = Live()
    plan = planned(live, {"Mode": "fast", "network": {"port": 1}}, 3_000)
    if when == "live":
        await live.configurations.switch(plan)
    await live.set(["own"], {"calibrated": True}, at=4_000)
    await live.set(["network", "port"], 2, at=4_000)
    if when == "planned":
        await live.configurations.switch(plan)
    own = {"own": {"calibrated": True}, "network": {"port": 2, "tls": True}}
    assert live.disk.plain("app") == STORED | own
    if end == "commit":
        trees = await commit(live, "app")
        assert trees["app"].to_plain() == live.plain == STORED | own | {"Mode": "fast"}
        assert live.configurations.committed == trees
    else:
        await live.configurations.back()
        assert live.plain == STORED | own


async def test_what_a_component_set_before_the_deployment_s_time_yields_to_it() -> None:
    live = Live()
    plan = planned(live, {"Mode": "fast"}, 3_000)
    await live.set(["Mode"], "own", at=2_000)
    await live.configurations.switch(plan)
    assert live.plain["Mode"] == "fast"


async def test_a_new_component_reads_and_sets_its_configuration_while_it_starts() -> None:
    live = Live()
    await live.configurations.switch({"new": Configured(Tree.of({"a": 1}, 3_000))})
    await live.configurations.update("new", ["b"], 2, 4_000, NOW)
    assert live.configurations.get("new").to_plain() == {"a": 1, "b": 2}  # type: ignore[union-attr]
    assert (await commit(live, "new"))["new"].to_plain() == {"a": 1, "b": 2}
    assert live.configurations.get("app") is None


async def test_a_component_that_leaves_the_set_has_its_configuration_until_the_commit() -> None:
    live = Live()
    live.watch("network")
    await live.configurations.switch({"new": Configured(Tree())})
    assert live.plain == STORED
    await commit(live, "new")
    assert (live.configurations.get("app"), live.events) == (None, [("network",)])


async def test_a_commit_that_fails_leaves_what_was_committed_for_the_rollback() -> None:
    live = Live()
    await live.configurations.switch(planned(live, {"Mode": "fast"}, 3_000))
    with pytest.raises(LedgerError):
        async with live.configurations.committing(["app"]):
            raise LedgerError("the disk is full")
    assert live.plain["Mode"] == "fast"
    await live.configurations.back()
    assert live.plain == STORED


async def test_an_update_waits_for_the_commit_and_is_of_the_new_set() -> None:
    live = Live()
    await live.configurations.switch(planned(live, {"Mode": "fast"}, 3_000))
    async with live.configurations.committing(["app"]) as trees:
        setting = asyncio.create_task(live.set(["own"], 1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (trees["app"].to_plain(), live.disk.writes) == (STORED | {"Mode": "fast"}, [])
    await setting
    assert live.disk.plain("app") == STORED | {"Mode": "fast", "own": 1}


async def test_system_variables_are_filled_in_for_whoever_reads_and_stored_as_they_were_written() -> None:
    live = Live()
    live.watch()
    system = Context(Values(work="/work/app"), thing_name="line-3")
    await live.configurations.switch(
        planned(live, {"Mode": "of {iot:thingName}", "list": ["{work:path}"]}, 3_000, system=system)
    )
    assert (live.plain["Mode"], live.plain["list"]) == ("of line-3", ["/work/app"])
    await live.set(["own"], "{iot:thingName}")
    assert live.plain["own"] == "line-3"
    assert live.events == [("Mode",), ("list",), ("own",)]
    assert live.configurations.get("app") is live.configurations.get("app")  # who compares them need not look inside
    assert (await commit(live, "app"))["app"].to_plain()["Mode"] == "of {iot:thingName}"


leaves = st.one_of(st.integers(0, 3), st.booleans(), st.none(), st.lists(st.integers(0, 1), max_size=1))
keys = st.sampled_from(["a", "b", "C"])
steps = st.one_of(
    st.tuples(st.just("set"), st.lists(keys, max_size=2), st.dictionaries(keys, leaves, max_size=2), st.integers(1, 9)),
    st.tuples(st.just("switch"), st.dictionaries(keys, leaves, max_size=2), st.integers(1, 9)),
    st.just(("back",)),
    st.just(("commit",)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=8))
def test_law_what_is_committed_is_what_is_on_the_disk_and_events_are_the_differences(sequence) -> None:
    async def run() -> None:
        live = Live({"a": 0, "b": {"a": 0}})
        on_disk = {"app": live.configurations.committed["app"]}
        for step, *given_ in sequence:
            before, live.events = live.plain, []
            live.configurations._watched.clear()
            live.watch()
            if step == "set":
                path, value, at = given_
                live.disk.writes.clear()
                with suppress(ConfigurationConflictError, ConfigurationConditionError):
                    await live.set(path, value, at)
                if live.disk.writes:
                    on_disk["app"] = Tree.load(live.disk.writes[-1]["app"])
            elif step == "switch":
                await live.configurations.switch(planned(live, *given_))
            elif step == "back":
                await live.configurations.back()
            else:
                on_disk = await commit(live, "app")
            assert live.configurations.committed == on_disk
            assert bool(live.events) == (repr(live.plain) != repr(before))
            if step in {"back", "commit"}:
                assert live.plain == on_disk["app"].to_plain()

    asyncio.run(run())


async def test_what_was_acknowledged_is_in_the_ledger_and_the_next_commit_takes_it_over(tmp_path: File) -> None:
    path, configurations = tmp_path / "ledger.db", Configurations()
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), b"one", b"")
        configurations.open({"app": Tree()}, ledger.configure)
        await configurations.update("app", ["n"], 1, 2_000, NOW)
        async with Ledger(path) as again:  # as after a crash: nothing was closed
            stored = await again.configurations()
        assert {name: Tree.load(each).to_plain() for name, each in stored.items()} == {"app": {"n": 1}}
        await ledger.commit(await ledger.receive("b", "TOPIC", b"{}", 0), b"two", b"", b"one with n")
        assert await ledger.configurations() == {}
        assert await ledger.active() == (b"two", b"one with n")
    async with Ledger(path) as ledger:
        assert await ledger.active() == (b"two", b"one with n")
