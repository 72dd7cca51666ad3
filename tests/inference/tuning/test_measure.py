"""Combinations measured in real workers, among them some that crash, hang, lie or are not there."""

from __future__ import annotations

import asyncio

import pytest

from agent.config.models import ModelOptions
from agent.inference.manifest import resolve
from agent.inference.placement import Placement
from agent.inference.tuning.choice import choose
from agent.inference.tuning.measure import AT_ONCE, measure, room, samples
from agent.inference.tuning.tuner import tune
from tests.support import unruly
from tests.support.models import onnx_colours, tflite_colours

WAY = "moody:Moody"


def ways(*texts: str) -> list[Placement]:
    return [Placement(WAY, accelerator, int(threads)) for accelerator, threads in (each.split() for each in texts)]


async def measured(spec, placements, *, budget_s: float = 60.0, at_once: int = AT_ONCE):
    said: list[str] = []
    pictures = samples(spec)
    found = await measure(spec, placements, pictures, budget_s=budget_s, at_once=at_once, report=said.append)
    assert [each.placement for each in found] == list(placements)
    return found, said


async def test_the_fastest_in_agreement_is_found(moody) -> None:
    spec = moody({"cpu 1": "30", "cpu 2": "5", "gpu 1": "disagree"})
    found, said = await measured(spec, ways("cpu 1", "cpu 2", "gpu 1"))
    chosen, reason = choose(found)
    assert chosen is found[1]
    assert "is the fastest" in reason
    assert 5 <= found[1].median_ms <= found[1].p95_ms
    assert found[1].infer_ms < found[0].infer_ms
    assert found[0].agreed == found[1].agreed == 4
    assert found[0].runtime == "moody 1"
    # What is far behind has shown so after a few rounds.
    assert found[0].rounds < found[1].rounds or found[1].rounds == found[0].rounds == 9
    assert said[-1].startswith("moody:Moody on gpu, 1 thread is out: ")


async def test_what_disagrees_is_out_with_the_difference(moody) -> None:
    found, _ = await measured(moody({"cpu 2": "disagree"}), ways("cpu 1", "cpu 2"))
    assert found[0].fit
    assert not found[1].fit
    assert found[1].problem.code == "disagrees"
    assert found[1].problem.message == (
        "on astronaut.jpg it says calm (0.70), not fine (0.70), and disagrees on 3 more "
        "(against moody:Moody on cpu, 1 thread)"
    )
    assert found[1].agreed == 0


@pytest.mark.parametrize(
    ("mood", "code", "words"),
    [
        ("crash", "worker-lost", "killed by SIGSEGV"),
        ("exit", "worker-lost", "exited with status 3"),
        ("hang", "worker-lost", "no answer within 1"),
        ("raise", "model-failed", "the network did not like it"),
        ("die", "worker-crashed", "killed by SIGABRT"),
        ("gone", "accelerator-unavailable", "there is no gpu"),
        ("elsewhere", "accelerator-unavailable", "gpu was asked for, and cpu runs it"),
    ],
)
async def test_what_fails_is_out_with_its_reason_and_the_others_are_measured(moody, mood, code, words) -> None:
    found, _ = await measured(moody({"gpu 1": mood}, deadline_s=1.0), ways("gpu 1", "cpu 1"))
    assert found[0].problem.code == code
    assert words in found[0].problem.message
    assert found[1].fit
    assert choose(found)[0] is found[1]


async def test_a_combination_that_hangs_while_loading_costs_the_budget_and_no_more(moody) -> None:
    began = asyncio.get_running_loop().time()
    found, _ = await measured(moody({"cpu 2": "linger"}), ways("cpu 1", "cpu 2"), budget_s=4.0)
    assert found[0].fit
    assert found[1].problem.code == "load-timeout"
    assert asyncio.get_running_loop().time() - began < 40


async def test_what_there_is_no_time_for_is_told(moody) -> None:
    found, _ = await measured(moody({}), ways("cpu 1", "cpu 2"), budget_s=0.0)
    assert [each.problem.code for each in found] == ["not-measured", "not-measured"]
    assert choose(found)[0] is None


async def test_with_little_memory_a_few_are_loaded_at_once(moody) -> None:
    found, _ = await measured(moody({"cpu 2": "disagree"}), ways("cpu 1", "cpu 2", "cpu 3"), at_once=1)
    assert [each.fit for each in found] == [True, False, True]


def test_the_memory_of_the_device_decides_how_many_are_loaded_at_once() -> None:
    assert room(0, 10 << 20) == 1
    assert room(1 << 30, 10 << 20) == 3
    assert room(64 << 30, 10 << 20) == AT_ONCE


async def test_golden_frames_are_what_it_is_measured_on(moody) -> None:
    spec = moody({})
    (golden := unruly.Path(spec.manifest.file).parent / "golden").mkdir()
    (golden / "one.jpg").write_bytes(unruly.jpeg("answer"))
    (golden / "expected.json").write_text("{}")
    (golden / "broken.jpg").write_text("none")
    assert [each.name for each in samples(spec)] == ["one.jpg"]
    for number in range(20):
        (golden / f"{number:02}.jpg").write_bytes(unruly.jpeg("answer"))
    assert len(samples(spec)) == 8


async def test_the_sample_classifier_is_tuned_on_litert(tmp_path) -> None:
    spec = resolve(ModelOptions(source="classifier"), tmp_path)
    tuning = await tune(spec, budget_s=60)
    found = {(each.placement.backend, each.placement.accelerator, each.placement.threads) for each in tuning.measured}
    assert {("litert", "cpu", threads) for threads in range(1, min(4, tuning.machine.cpus) + 1)} <= found
    assert tuning.ranked[0].backend == "litert"
    assert all(each.agreed == 4 for each in tuning.measured if each.fit)
    assert tuning.measured[0].median_ms > tuning.measured[0].infer_ms > 0
    assert tuning.machine.packages["ai-edge-litert"]
    assert tuning.pictures == ("astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg")


async def test_an_onnx_file_is_measured_under_both_backends_that_read_it(tmp_path) -> None:
    file = onnx_colours(tmp_path / "mine.onnx")
    tuning = await tune(resolve(ModelOptions(source=str(file), threads=1), tmp_path), budget_s=60)
    assert {str(each.placement) for each in tuning.measured if each.fit} == {
        "onnx on cpu, 1 thread",
        "opencv on cpu, 1 thread",
    }
    assert tuning.reason


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backend": "opencv", "threads": 2}, {"opencv on cpu, 2 threads"}),
        ({"backend": "onnx", "accelerator": "cpu", "threads": 1}, {"onnx on cpu, 1 thread"}),
    ],
)
async def test_what_the_configuration_says_is_kept(tmp_path, options, expected) -> None:
    file = onnx_colours(tmp_path / "mine.onnx")
    tuning = await tune(resolve(ModelOptions(source=str(file), **options), tmp_path), budget_s=60)
    assert {str(each.placement) for each in tuning.measured} == expected


async def test_a_backend_that_is_not_installed_is_told_with_the_way_to_install_it(tmp_path) -> None:
    (tmp_path / "without").mkdir()
    lines = "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    (tmp_path / "without" / "onnxruntime.py").write_text(lines)
    file = onnx_colours(tmp_path / "mine.onnx")
    environment = {"PYTHONPATH": str(tmp_path / "without")}
    tuning = await tune(resolve(ModelOptions(source=str(file), environment=environment), tmp_path), budget_s=60)
    assert tuning.ranked[0].backend == "opencv"
    (out,) = (each for each in tuning.measured if each.problem is not None)
    assert str(out.placement) == "onnx"
    assert out.problem.hint == "pip install 'verge-edge[onnx]'"


async def test_a_backend_that_crashes_at_its_import_is_out(tmp_path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "onnxruntime.py").write_text("import os; os.abort()\n")
    file = onnx_colours(tmp_path / "mine.onnx")
    environment = {"PYTHONPATH": str(tmp_path / "with")}
    tuning = await tune(resolve(ModelOptions(source=str(file), environment=environment), tmp_path), budget_s=60)
    assert tuning.ranked[0].backend == "opencv"
    (out,) = (each for each in tuning.measured if each.problem is not None)
    assert out.problem.code == "probe-crashed"
    assert "SIGABRT" in out.problem.message


async def test_a_backend_that_does_not_read_the_file_is_not_mentioned(tmp_path) -> None:
    file = tflite_colours(tmp_path / "mine.tflite")
    tuning = await tune(resolve(ModelOptions(source=str(file), threads=1), tmp_path), budget_s=60)
    assert {each.placement.backend for each in tuning.measured} == {"litert"}
