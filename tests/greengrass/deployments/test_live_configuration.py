"""Configurations through deployments, rollbacks and restarts of a service with real scripts and a real ledger."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.outcome import DetailedStatus
from agent.greengrass.recipes.configuration import Tree
from tests.greengrass.deployments.test_service import Device, running, scripts
from tests.support.until import until


def configured(version: str, merge: dict[str, Any], **lifecycle: Any) -> dict[str, Any]:
    document = scripts(version, **lifecycle)
    document["components"]["app"]["configurationUpdate"] = {"merge": merge}
    return document


def read(device: Device, component: str = "app") -> dict[str, Any] | None:
    tree = device.service.configurations.get(component)
    return None if tree is None else tree.to_plain()


async def set_own(device: Device, value: dict[str, Any], *, later_s: float = 0) -> None:
    now_ms = int(time.time() * 1e3)
    await device.service.configurations.update("app", [], value, now_ms + int(later_s * 1e3), now_ms)


async def test_a_component_that_starts_reads_the_configuration_that_it_is_started_with(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        waits = f"echo at > {tmp_path}/at; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
        deploying = asyncio.create_task(device.deploy(configured("2.0.0", {"n": 2}, Startup=waits)))
        await until((tmp_path / "at").exists)
        assert read(device) == {"n": 2}
        await set_own(device, {"own": 1})
        (tmp_path / "go").touch()
        assert (await deploying)[0].status is DetailedStatus.SUCCESSFUL
        state = device.service.state
        assert state.current.configs["app"].to_plain() == read(device) == {"n": 2, "own": 1}
        assert state.previous is not None
        assert state.previous.configs["app"].to_plain() == {"n": 1, "own": 1}
    async with running(tmp_path) as device:
        assert device.service.state.current.configs == state.current.configs
        assert device.service.state.previous == state.previous


async def test_a_rollback_puts_the_configuration_back_and_announces_it(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        seen: list[tuple[tuple[str, ...], Any]] = []
        device.service.configurations.watch("app", (), lambda _, path: seen.append((path, read(device))))
        outcome, _ = await device.deploy(configured("2.0.0", {"n": 2}, Startup="exit 3"))
        assert outcome.status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        assert seen == [(("n",), {"n": 2}), (("n",), {"n": 1})]
        assert device.service.state.current.configs["app"].to_plain() == {"n": 1}


async def test_what_a_component_set_outlives_the_agent_and_is_what_the_next_deployment_begins_with(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1, "kept": 1}, Run="exec sleep 600"))
        await set_own(device, {"n": 2, "later": 2}, later_s=0)
        await set_own(device, {"later": 3}, later_s=3600)
        assert device.service.state.current.configs["app"].to_plain() == {"n": 2, "kept": 1, "later": 3}
    async with running(tmp_path) as device:
        assert read(device) == {"n": 2, "kept": 1, "later": 3}
        await device.deploy(configured("1.0.0", {"n": 4, "later": 4}, Run="exec sleep 600"))
        assert read(device) == {"n": 4, "kept": 1, "later": 3}


async def test_a_set_that_is_asked_for_again_has_the_configuration_that_it_had_in_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        await set_own(device, {"own": 1})
    async with running(tmp_path) as device:
        await device.deploy(configured("2.0.0", {"n": 2}, Run="exec sleep 600"))
        await set_own(device, {"own": 2})
        outcome, _ = await device.deploy({"rollback": True})
        assert outcome.status is DetailedStatus.SUCCESSFUL, outcome
        assert read(device) == {"n": 1, "own": 1}


async def test_a_changed_configuration_restarts_no_component_but_one_whose_script_it_is_in(tmp_path: Path) -> None:
    def document(value: int) -> dict[str, Any]:
        made = configured("1.0.0", {"n": value}, Run=f"echo plain >> {tmp_path}/starts; exec sleep 600")
        other = configured(
            "1.0.0", {"n": value}, Run=f"echo {{configuration:/n}} >> {tmp_path}/starts; exec sleep 600",
            Shutdown="echo {configuration:/n}",
        )  # fmt: skip
        other["recipes"][0]["ComponentName"] = "other"
        made["components"]["other"] = other["components"]["app"]
        return made | {"recipes": [*made["recipes"], *other["recipes"]]}

    async with running(tmp_path) as device:
        seen: list[tuple[str, ...]] = []
        for value in (1, 2):
            assert (await device.deploy(document(value)))[0].status is DetailedStatus.SUCCESSFUL
            if value == 1:
                device.service.configurations.watch("app", (), lambda _, path: seen.append(path))
        started = (tmp_path / "starts").read_text().split()
        assert (sorted(started), seen, read(device)) == (["1", "2", "plain"], [("n",)], {"n": 2})


@pytest.mark.parametrize("step", [Step.RESOLVED, Step.STAGED, Step.VERIFYING])
async def test_what_a_component_sets_at_any_step_of_a_deployment_is_in_what_is_committed(
    tmp_path: Path, step: Step
) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        setting: list[asyncio.Task[None]] = []

        def after(at: Step) -> None:
            if at is step:
                setting.append(asyncio.create_task(set_own(device, {"own": 1, "n": 3}, later_s=60)))

        device.ledger.after_step = after
        await device.deploy(configured("2.0.0", {"n": 2}, Run="exec sleep 600"))
        await asyncio.gather(*setting)
        assert len(setting) == 1
        assert read(device) == {"n": 3, "own": 1}
    async with running(tmp_path) as device:
        assert read(device) == {"n": 3, "own": 1}


async def test_a_component_that_was_removed_leaves_nothing_of_what_it_set(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        await set_own(device, {"own": 1})
        await device.deploy({"components": {}})
        assert read(device) is None
        await device.deploy(scripts("1.0.0", Run="exec sleep 600"))
        assert read(device) == {}


async def test_the_nucleus_s_configuration_can_be_read(tmp_path: Path) -> None:
    async with running(tmp_path) as device:
        assert read(device, "aws.greengrass.Nucleus") == {}
        merge = {"runWithDefault": {"posixShell": "bash"}}
        await device.deploy(
            {"components": {"aws.greengrass.Nucleus": {"version": "2.12.6", "configurationUpdate": {"merge": merge}}}}
        )
        assert read(device, "aws.greengrass.Nucleus") == merge


async def test_a_damaged_configuration_in_the_ledger_costs_what_the_component_set_and_not_the_set(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as device:
        await device.deploy(configured("1.0.0", {"n": 1}, Run="exec sleep 600"))
        await device.ledger.configure({"app": b"damaged", "stranger": Tree().dump()})
    async with running(tmp_path) as device:
        assert read(device) == {"n": 1}
        assert read(device, "stranger") is None
