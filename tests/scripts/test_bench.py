"""The bench runs and is honest about what it did; how fast this machine is, is no test's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FIGURES = {
    "bare_fps", "bare_cpu_ms_per_frame", "e2e_fps_1", "e2e_fps_2", "ratio_1", "ratio_2", "added_ms_p50", "added_ms_p95",
    "e2e_ms_p50", "worker_ms_p50", "echo_ms_p50", "core_cpu_ms_per_frame", "worker_cpu_ms_per_frame",
    "broker_cpu_ms_per_frame", "client_cpu_ms_per_frame", "core_rss_mb", "core_pss_mb", "ready_s",
}  # fmt: skip
# A difference of times may have any sign, and the kernel counts processor time in hundredths of a second.
ANY_SIGN = {"added_ms_p50", "added_ms_p95"}
MAY_BE_ZERO = {"core_cpu_ms_per_frame", "worker_cpu_ms_per_frame", "broker_cpu_ms_per_frame"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_the_bench_prints_one_json_object_with_every_figure_and_its_progress_elsewhere():
    done = bench("--json", "--seconds", "0.2", "--rounds", "1", "--latencies", "5", "--starts", "1")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == FIGURES | {"model", "cores"}
    assert told["model"] == "classifier"
    for name in FIGURES - ANY_SIGN - MAY_BE_ZERO:
        assert told[name] > 0, name
    for name in MAY_BE_ZERO:
        assert told[name] >= 0, name
    assert told["core_pss_mb"] <= told["core_rss_mb"]
    assert told["e2e_ms_p50"] > told["worker_ms_p50"]
    assert "bench: round 1 of 1" in done.stderr


def test_the_bench_refuses_a_rival_it_does_not_know_and_names_those_it_does():
    done = bench("--vs", "litserv")

    assert done.returncode == 2
    assert "'litserv' is none of litserve, mlserver" in done.stderr
    assert not done.stdout


DEPLOY_FIGURES = {
    "swaps", "cached_deploy_s", "cached_deploy_s_p95", "swap_gap_frames", "frames", "rollback_s", "rollback_scripts_s",
    "rss_growth_pct", "core_rss_mb", "leaked_mb", "own_mb",
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_the_bench_of_deployments_prints_every_figure():
    done = bench("deploy", "--json", "--swaps", "2", "--warm-up", "0")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == DEPLOY_FIGURES
    assert told["swaps"] == 2
    assert told["swap_gap_frames"] == 0
    for name in DEPLOY_FIGURES - {"swap_gap_frames", "rss_growth_pct", "leaked_mb"}:
        assert told[name] > 0, name
