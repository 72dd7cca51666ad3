"""``verge demo --deploy`` with real brokers, a real Jobs service and models that are really broken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import agent
from agent.demo.kit import BAD, DETECTOR, Kit
from agent.demo.rehearsal import FAILED, FailedDeployment, Rehearsal, Swap
from agent.demo.table import deployed

ROOT = Path(agent.__file__).parents[1]
PATIENCE_S = 120

GOOD = Rehearsal(
    deployment=Swap(status="SUCCESSFUL", seconds=0.8, swap_gap_frames=0, first_seconds=0.9),
    failures=(FailedDeployment(case="wrong-labels", status=FAILED[1], reason="no cat", seconds=0.5, frames_lost=0),),
    model=DETECTOR,
)


async def demo(folder: Path, *options: str, **more: str) -> tuple[int, dict[str, Any], str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "demo", "--deploy", "--json"), *options,
        env={**os.environ, "TMPDIR": str(folder), **more}, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out), err.decode()


def assert_as_promised(summary: dict[str, Any], *, in_time: bool) -> None:
    """Everything but the time: how fast this machine is beside other tests is no promise of the demo's."""
    assert summary["frames"] == summary["received"] == summary["answered"] == summary["results"] > 100
    swap = summary["deployment"]
    assert (swap["status"], swap["swap_gap_frames"]) == ("SUCCESSFUL", 0)
    assert 0 < swap["seconds"] < 10
    assert {each["case"] for each in summary["failures"]} == set(BAD)
    for each in summary["failures"]:
        assert each["status"] in FAILED
        assert each["frames_lost"] == 0
    reasons = {each["case"]: each["reason"] for each in summary["failures"]}
    assert "expected Cat" in reasons["wrong-labels"]
    assert "has the digest sha256:" in reasons["corrupt-archive"]
    assert "cannot be loaded" in reasons["truncated-model"]
    assert "killed by SIGSEGV" in reasons["crashing-model"]
    assert summary["model"]["component"] == DETECTOR
    assert in_time == (summary["shortcomings"] == [])


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
async def test_models_come_by_jobs_and_no_frame_is_lost_to_good_ones_or_bad_ones(tmp_path):
    status, summary, err = await demo(tmp_path)
    assert_as_promised(summary, in_time=status == 0)
    assert summary["broker"].startswith("mosquitto")
    assert "detector, from the cache: SUCCESSFUL in" in err
    (work,) = tmp_path.iterdir()
    assert [entry.name for entry in work.iterdir()] == ["snapshots"]


async def test_on_the_embedded_broker_the_same_protocol_runs_under_another_prefix(tmp_path):
    status, summary, _ = await demo(tmp_path, PATH="")
    assert_as_promised(summary, in_time=status == 0)
    assert summary["broker"].startswith("embedded rumqttd")


def test_it_brings_its_own_models():
    done = asyncio.run(_refused())
    assert done == (2, True)


async def _refused() -> tuple[int | None, bool]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "demo", "--deploy", "--model", "classifier"),
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    return process.returncode, b"leave --model out" in err


def test_a_rehearsal_in_which_all_went_well_has_no_shortcomings():
    assert GOOD.shortcomings == []
    assert "swapped: SUCCESSFUL in 0.80 s from the cache" in deployed(GOOD)
    assert "NOT" not in deployed(GOOD)


@pytest.mark.parametrize(
    ("swap", "failure", "model"),
    [
        ({"status": "FAILED_NO_STATE_CHANGE"}, {}, DETECTOR),
        ({"swap_gap_frames": 1}, {}, DETECTOR),
        ({"seconds": 1.6}, {}, DETECTOR),
        ({}, {"status": "SUCCESSFUL"}, DETECTOR),
        ({}, {"status": "FAILED_UNABLE_TO_ROLLBACK"}, DETECTOR),
        ({}, {"frames_lost": 1}, DETECTOR),
        ({}, {"seconds": 2.1}, DETECTOR),
        ({}, {"reason": ""}, DETECTOR),
        ({}, {}, "another"),
    ],
)
def test_whatever_is_not_as_promised_is_said(swap, failure, model):
    rehearsal = replace(
        GOOD,
        deployment=replace(GOOD.deployment, **swap),
        failures=tuple(replace(each, **failure) for each in GOOD.failures),
        model=model,
    )
    assert len(rehearsal.shortcomings) == 1
    assert "NOT as promised: " in deployed(rehearsal)


def test_every_archive_of_the_kit_has_a_digest_of_its_own(tmp_path):
    kit = Kit(tmp_path / "kit", "cameras", {})
    digests = {
        kit.document(DETECTOR, version)["recipes"][0]["Manifests"][0]["Artifacts"][0]["Digest"]
        for version in ("1.0.0", *BAD.values())
    }
    assert len(digests) == 1 + len(BAD)
