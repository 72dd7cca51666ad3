"""Tuning behind the door: measured once, then loaded in the fastest way that is still to be had."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent.errors import ModelRefusedError
from agent.inference.placement import Placement
from agent.inference.plane import InferencePlane
from agent.inference.tuning import tuner as module
from agent.inference.tuning.store import TuningStore
from agent.inference.tuning.tuner import Tuner, digest_of, find, tune
from agent.inference.tuning.values import Measured
from tests.support import unruly


@asynccontextmanager
async def tuned_plane(tmp_path, fallen=None, *, budget_s=60.0):
    placer = Tuner(tmp_path / "data", budget_s=budget_s)
    fallen = fallen if fallen is not None else []
    async with (
        asyncio.TaskGroup() as tasks,
        InferencePlane(
            tasks, tmp_path / "quarantine", placer=placer, fell_back=lambda *why: fallen.append(why)
        ) as plane,
    ):
        yield plane


async def kept(spec, tmp_path, *ranked: str):
    """Keep a tuning as if these ways had been measured, best first."""
    tuning = await tune(spec, budget_s=0.0)
    ways = [Placement("moody:Moody", *_way(each)) for each in ranked]
    figures = tuple(Measured(placement=way, rounds=9, median_ms=float(place)) for place, way in enumerate(ways, 1))
    TuningStore(tmp_path / "data").keep(msgspec.structs.replace(tuning, measured=figures))


def _way(text: str) -> tuple[str, int]:
    accelerator, threads = text.split()
    return accelerator, int(threads)


async def test_a_model_that_does_not_ask_for_it_is_loaded_as_ever(moody, tmp_path) -> None:
    async with tuned_plane(tmp_path) as plane:
        metadata = await plane.load("m", moody({}, autotune=False))
        assert plane.models == ("m",)
    assert metadata.backend == "moody 1"
    assert not (tmp_path / "data").exists()


async def test_it_is_measured_once_and_run_in_the_fastest_way(moody, tmp_path, monkeypatch) -> None:
    spec = moody({"auto 1": "40", "auto 2": "1"}, workers=1)
    measurements = []

    async def counted(*given, **named):
        measurements.append(given)
        return await tune(*given, **named)

    monkeypatch.setattr(module, "tune", counted)
    async with tuned_plane(tmp_path) as plane:
        await asyncio.gather(plane.load("one", spec), plane.load("two", spec))
        answer = await plane.infer("one", unruly.picture("answer"))
    assert len(measurements) == 1
    tuning = await find(spec, TuningStore(tmp_path / "data"))
    assert tuning is not None
    if tuning.machine.cpus > 1:
        assert tuning.ranked[0].threads == 2
        assert answer.timing_ms["infer"] < 40
    async with tuned_plane(tmp_path) as plane:
        await plane.load("again", spec)
    assert len(measurements) == 1


async def test_a_changed_machine_is_measured_anew(moody, tmp_path) -> None:
    spec = moody({})
    store = TuningStore(tmp_path / "data")
    tuning = await tune(spec, budget_s=0.0)
    store.keep(msgspec.structs.replace(tuning, machine=msgspec.structs.replace(tuning.machine, cpu="another")))
    said: list[str] = []
    assert await find(spec, store, said.append) is None
    assert said == [f"the tuning of {spec.name} is stale: cpu was another and is {tuning.machine.cpu}"]
    async with tuned_plane(tmp_path) as plane:
        await plane.load("m", spec)
    found = store.find(await digest_of(spec), tuning.requirements)
    assert found.machine == tuning.machine
    assert found.ranked


async def test_a_vanished_accelerator_falls_down_the_list_loudly(moody, tmp_path, caplog) -> None:
    spec = moody({"gpu 1": "gone", "npu 1": "elsewhere"})
    await kept(spec, tmp_path, "gpu 1", "npu 1", "cpu 2", "cpu 1")
    fallen: list[tuple[str, str]] = []
    async with tuned_plane(tmp_path, fallen) as plane:
        metadata = await plane.load("m", spec)
        assert plane.models == ("m",)
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
    assert metadata.accelerator == "cpu"
    ((name, reason),) = fallen
    assert name == "m"
    assert reason == (
        "moody:Moody on gpu, 1 thread cannot be had: there is no gpu; "
        "moody:Moody on npu, 1 thread cannot be had: npu was asked for, and cpu runs it; "
        "it runs with moody:Moody on cpu, 2 threads"
    )
    assert "there is no gpu" in caplog.text


async def test_an_accelerator_that_takes_the_worker_down_is_passed_over_too(moody, tmp_path) -> None:
    spec = moody({"gpu 1": "die"})
    await kept(spec, tmp_path, "gpu 1", "cpu 1")
    fallen: list[tuple[str, str]] = []
    async with tuned_plane(tmp_path, fallen) as plane:
        await plane.load("m", spec)
    assert "SIGABRT" in fallen[0][1]


async def test_where_the_whole_list_is_gone_it_runs_as_its_manifest_says(moody, tmp_path) -> None:
    spec = moody({"gpu 1": "gone"})
    await kept(spec, tmp_path, "gpu 1")
    fallen: list[tuple[str, str]] = []
    async with tuned_plane(tmp_path, fallen) as plane:
        await plane.load("m", spec)
    assert fallen[0][1].endswith("it runs with what its manifest says")


async def test_a_model_that_cannot_be_loaded_is_refused_as_ever(moody, tmp_path) -> None:
    spec = moody({}, options={"top_q": 1})
    async with tuned_plane(tmp_path) as plane:
        with pytest.raises(ModelRefusedError) as refused:
            await plane.load("m", spec)
    assert refused.value.code == "options-wrong"


async def test_no_time_to_measure_keeps_no_model_from_running_and_is_not_tried_twice(moody, tmp_path, caplog) -> None:
    spec = moody({"auto 1": "linger", "auto 2": "linger"}, load_timeout_s=2.0)
    async with tuned_plane(tmp_path, budget_s=1.0) as plane:
        with pytest.raises(Exception, match="not loaded within 2 s"):
            await plane.load("m", spec)
    assert "tuning found nothing" in caplog.text
    tuning = await find(spec, TuningStore(tmp_path / "data"))
    assert tuning is not None
    assert tuning.ranked == ()


async def test_an_interpreter_that_is_not_there_is_the_planes_to_refuse(moody, tmp_path, caplog) -> None:
    spec = moody({}, interpreter="/nowhere/python")
    async with tuned_plane(tmp_path) as plane:
        with pytest.raises(ModelRefusedError) as refused:
            await plane.load("m", spec)
    assert refused.value.code == "interpreter-missing"
    assert "cannot be tuned" in caplog.text
