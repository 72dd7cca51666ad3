"""The bench runs and is honest about what it did; how fast this machine is, is no test's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.inference.manifest import SAMPLES
from scripts.benchmarks import onnxcopy, tflite

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
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)


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


FLEET_FIGURES = {
    "things", "lost_notifications", "unfinished", "executions_per_s", "cpu_ms_per_thing", "rss_mb",
    "idle_rss_mb", "seconds",
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_the_bench_of_a_fleet_prints_every_figure_and_nobody_is_lost():
    done = bench("fleet", "--json", "--things", "2500")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == FLEET_FIGURES
    assert (told["things"], told["lost_notifications"], told["unfinished"]) == (2500, 0, 0)
    assert told["executions_per_s"] > 0


BACKEND_FIGURES = {
    "runtime", "file", "load_ms", "same_top_1", "max_score_difference", "infer_ms_p50", "infer_ratio",
    "infer_ratio_range", "answer_ms_p50", "answer_ratio", "answer_ratio_range",
}  # fmt: skip


def test_the_bench_of_backends_runs_one_network_under_each_and_compares_what_they_say():
    done = bench("--backend", "litert,onnx,opencv", "--json", "--rounds", "1", "--latencies", "10")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == {"model", "cores", "pictures", "frames", "backends"}
    assert (told["model"], told["pictures"], told["frames"]) == ("classifier", 24, 10)
    assert list(told["backends"]) == ["litert", "onnx", "opencv"]
    first, *others = told["backends"].values()
    assert (first["same_top_1"], first["max_score_difference"], first["infer_ratio"]) == (24, 0, 1)
    for name, figures in told["backends"].items():
        assert figures.keys() == BACKEND_FIGURES
        assert figures["runtime"].startswith(f"{name} ")
        assert 0 < figures["infer_ms_p50"] < figures["answer_ms_p50"]
    for figures in others:
        assert figures["same_top_1"] >= 22, "what int8 says of nearly equal scores may differ"
        assert 0 < figures["max_score_difference"] < 0.1


@pytest.mark.skipif(not find_spec("dlr"), reason="needs libdlr: pip install 'verge-edge[dlr]'")
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a compiler: apt-get install gcc libc6-dev")
def test_the_bench_of_backends_compiles_the_network_for_libdlr():
    done = bench("--backend", "litert,dlr", "--json", "--rounds", "1", "--latencies", "10")

    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout)["backends"]["dlr"]
    assert compiled["runtime"].startswith("dlr ")
    assert compiled["same_top_1"] >= 22, "what int8 says of nearly equal scores may differ"
    assert 0 < compiled["max_score_difference"] < 0.1


def test_the_bench_of_backends_tells_which_backend_cannot_run_the_network_and_goes_on(tmp_path: Path):
    network = tmp_path / "network.onnx"
    onnxcopy.write(tflite.read(SAMPLES / "classifier" / "model.tflite"), network, "float")

    done = bench("--model", str(network), "--backend", "onnx,litert", "--rounds", "1", "--latencies", "10")

    assert done.returncode == 0, done.stderr
    assert "litert cannot run it: it takes no .onnx here" in done.stdout
    assert "24 of 24" in done.stdout


def test_the_bench_of_backends_ends_when_the_one_that_all_are_compared_with_cannot_run(tmp_path: Path):
    network = tmp_path / "network.onnx"
    onnxcopy.write(tflite.read(SAMPLES / "classifier" / "model.tflite"), network, "float")

    done = bench("--model", str(network), "--backend", "litert,onnx", "--rounds", "1", "--latencies", "10")

    assert done.returncode == 1
    assert "litert, which the others are compared with, cannot run it" in done.stderr
    assert not done.stdout


def test_the_bench_refuses_a_backend_it_does_not_know_and_names_those_it_does():
    done = bench("--backend", "litert,onyx")

    assert done.returncode == 2
    assert "'onyx' is none of litert, onnx, onnx:int8, opencv, opencv:int8, dlr" in done.stderr


API_PARTS = ("ms_p50", "per_s", "ratio", "ratio_alone", "client_cpu_ms", "core_cpu_ms", "worker_cpu_ms")
API_FIGURES = {
    *(
        f"{name}_{part}"
        for name in ("edge_manager", "edge_manager_shm", "lookout", "lookout_shm", "v2_grpc", "v2_http")
        for part in API_PARTS
    ),
    *(f"{loop}_{part}" for loop in ("loop", "loop_picture") for part in ("ms_p50", "per_s", "cpu_ms")),
}


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_the_bench_of_interfaces_prints_every_figure_beside_the_plain_loop():
    done = bench("api", "--json", "--rounds", "1", "--seconds", "0.2")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == API_FIGURES | {"model", "cores"}
    for name in API_FIGURES:
        assert told[name] >= 0, name
        assert told[name] > 0 or name.endswith("cpu_ms"), name
