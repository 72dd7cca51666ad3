"""Lookout for Vision's interface over a real socket: models started and stopped, pictures judged, each refusal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config.edgeapi import LookoutOptions
from agent.config.models import ModelOptions
from agent.edgeapi import wiring
from agent.edgeapi.protos import messages
from agent.inference.manifest import resolve
from tests.support import inspection
from tests.support.edgeapi import Client, client, surroundings
from tests.support.until import until

PROTO = messages("lookout")
STOPPED, STARTING, RUNNING, FAILED, STOPPING = range(5)


@asynccontextmanager
async def serving(folder: Path, models: dict[str, Path], **more: Any) -> AsyncIterator[Client]:
    options = LookoutOptions(models={name: ModelOptions(source=str(place)) for name, place in models.items()})
    async with (
        surroundings(folder, **more) as here,
        wiring.lookout(here, options),
        client(PROTO, folder / "lookout.sock") as one,
    ):
        yield one


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Client]:
    """One with a model of each way to judge."""
    made = {kind: getattr(inspection, kind)(tmp_path / kind) for kind in ("inspector", "segmenter", "classifier")}
    async with serving(tmp_path, made) as one:
        yield one


def bitmap(pixels: np.ndarray) -> Any:
    height, width, _ = pixels.shape
    return PROTO.Bitmap(width=width, height=height, byte_data=pixels.tobytes())


async def status(agent: Client, name: str) -> tuple[int, str]:
    told = (await agent.call("DescribeModel", model_component=name)).model_description
    assert told.model_component == name
    return told.status, told.status_message


async def started(agent: Client, name: str) -> None:
    assert (await agent.call("StartModel", model_component=name)).status == STARTING
    await until(lambda: is_now(agent, name, RUNNING))


async def is_now(agent: Client, name: str, wanted: int) -> bool:
    return (await status(agent, name))[0] == wanted


async def judged(agent: Client, name: str, pixels: np.ndarray, **more: Any) -> Any:
    answer = await agent.call("DetectAnomalies", model_component=name, bitmap=bitmap(pixels), **more)
    return answer.detect_anomaly_result


@pytest.fixture
def segment() -> Iterator[Path]:
    """A segment of a client's, with room for two pictures of 128 × 64."""
    path = Path("/dev/shm") / f"verge-test-{os.getpid()}"
    path.write_bytes(b"\1" * (2 * 128 * 64 * 3))
    yield path
    path.unlink()


# -- the life of a model ---------------------------------------------------------------------------------------------


async def test_a_model_starts_in_the_background_judges_pictures_and_stops(agent: Client) -> None:
    assert [(one.model_component, one.status) for one in (await agent.call("ListModels")).models] == [
        ("classifier", STOPPED), ("inspector", STOPPED), ("segmenter", STOPPED),
    ]  # fmt: skip
    assert (await agent.call("StartModel", model_component="inspector")).status == STARTING
    # Clients that do not wait ask again what became of it, and do not start it a second time.
    assert (await status(agent, "inspector"))[0] in (STARTING, RUNNING)
    assert await agent.refused("StartModel", model_component="inspector") == "FAILED_PRECONDITION"
    await until(lambda: is_now(agent, "inspector", RUNNING))
    assert (await judged(agent, "inspector", inspection.spotted())).is_anomalous
    stopping = asyncio.ensure_future(agent.call("StopModel", model_component="inspector"))
    assert (await stopping).status == STOPPED
    assert await status(agent, "inspector") == (STOPPED, "")
    await started(agent, "inspector")


async def test_a_model_that_cannot_be_loaded_has_failed_with_the_reason_and_can_be_started_again(tmp_path) -> None:
    broken = inspection.inspector(tmp_path / "broken")
    whole = (broken / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(whole[:20])
    async with serving(tmp_path, {"broken": broken}) as agent:
        await agent.call("StartModel", model_component="broken")
        await until(lambda: is_now(agent, "broken", FAILED))
        assert "model.onnx" in (await status(agent, "broken"))[1]
        assert await agent.refused("StopModel", model_component="broken") == "FAILED_PRECONDITION"
        (broken / "model.onnx").write_bytes(whole)
        await started(agent, "broken")


async def test_a_model_that_judges_nothing_fails_and_says_what_it_lacks(tmp_path) -> None:
    async with serving(tmp_path, {"plain": inspection.classifier(tmp_path / "plain", "")}) as agent:
        await agent.call("StartModel", model_component="plain")
        await until(lambda: is_now(agent, "plain", FAILED))
        assert "[anomaly]" in (await status(agent, "plain"))[1]


async def test_while_a_model_stops_others_see_it_stopping_and_whoever_asked_waits_until_it_has(agent: Client) -> None:
    await started(agent, "inspector")
    seen = set()
    stopping = asyncio.ensure_future(agent.call("StopModel", model_component="inspector"))
    while not stopping.done():
        seen.add((await status(agent, "inspector"))[0])
    assert (await stopping).status == STOPPED
    assert STOPPING in seen
    assert await agent.refused("StopModel", model_component="inspector") == "FAILED_PRECONDITION"


async def test_a_model_of_another_version_takes_the_place_of_the_one_that_runs_and_one_that_is_gone_stops(
    tmp_path,
) -> None:
    def deployed(table: str, place: str) -> dict[str, Any]:
        return {"line": resolve(ModelOptions(source=str(inspection.inspector(tmp_path / place, table))), tmp_path)}

    now = deployed("threshold = 0.9", "one")
    async with serving(tmp_path, {}, components=lambda: now) as agent:
        await started(agent, "line")
        grey = inspection.spotted(color=(180, 180, 180))
        assert not (await judged(agent, "line", grey)).is_anomalous
        now = deployed("threshold = 0.2", "two")

        async def another() -> bool:
            return (await judged(agent, "line", grey)).is_anomalous

        await until(another)
        now = {}

        async def gone() -> bool:
            return not (await agent.call("ListModels")).models

        await until(gone)
        assert await agent.refused("DescribeModel", model_component="line") == "NOT_FOUND"


def kill_workers() -> None:
    """End the worker processes of this process."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            if b"inference/runtime" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)


async def test_a_worker_that_dies_is_replaced_and_the_model_runs_on(tmp_path: Path) -> None:
    async with serving(tmp_path, {"line": inspection.inspector(tmp_path / "m")}) as agent:
        await started(agent, "line")
        kill_workers()
        assert (await judged(agent, "line", inspection.spotted())).is_anomalous
        assert await is_now(agent, "line", RUNNING)


async def test_a_model_whose_workers_cannot_come_back_has_failed_until_it_is_started_again(tmp_path: Path) -> None:
    folder = inspection.inspector(tmp_path / "m")
    async with serving(tmp_path, {"line": folder}) as agent:
        await started(agent, "line")
        (folder / "model.onnx").rename(folder / "away")
        kill_workers()
        await until(lambda: is_now(agent, "line", FAILED))
        assert "model.onnx" in (await status(agent, "line"))[1]
        whole = bitmap(inspection.dark())
        assert await agent.refused("DetectAnomalies", model_component="line", bitmap=whole) == "FAILED_PRECONDITION"
        assert await agent.refused("StopModel", model_component="line") == "FAILED_PRECONDITION"
        (folder / "away").rename(folder / "model.onnx")
        await started(agent, "line")
        assert (await judged(agent, "line", inspection.spotted())).is_anomalous


# -- verdicts and masks ----------------------------------------------------------------------------------------------


async def test_a_picture_is_anomalous_from_the_threshold_on_and_the_confidence_is_that_of_the_verdict(agent) -> None:
    await started(agent, "inspector")
    wrong, right = [await judged(agent, "inspector", pixels) for pixels in (inspection.spotted(), inspection.dark())]
    assert (wrong.is_anomalous, right.is_anomalous) == (True, False)
    assert (wrong.confidence, right.confidence) == (pytest.approx(1), pytest.approx(1))
    assert (wrong.anomaly_score, wrong.anomaly_threshold) == (pytest.approx(1), pytest.approx(0.5))


async def test_a_map_s_mask_has_the_picture_s_size_and_the_anomaly_s_colour_where_the_anomaly_is(agent) -> None:
    await started(agent, "inspector")
    result = await judged(agent, "inspector", inspection.spotted())
    assert (result.anomaly_mask.width, result.anomaly_mask.height) == (128, 64)
    mask = np.frombuffer(result.anomaly_mask.byte_data, np.uint8).reshape(64, 128, 3)
    assert mask[5, 5].tolist() == [35, 164, 54]
    assert mask[60, 120].tolist() == [255, 255, 255]
    named = [(one.name, one.pixel_anomaly.hex_color) for one in result.anomalies]
    assert named == [("background", "#FFFFFF"), ("anomaly", "#23A436")]
    areas = [one.pixel_anomaly.total_percentage_area for one in result.anomalies]
    assert areas == [pytest.approx(0.75, abs=0.02), pytest.approx(0.25, abs=0.02)]
    white = (mask == 255).all(axis=2).mean()
    assert areas[0] == pytest.approx(white, abs=1e-6)


async def test_each_class_has_its_colour_background_first_and_the_areas_are_fractions_that_sum_to_one(agent) -> None:
    await started(agent, "segmenter")
    pixels = inspection.spotted(color=(0, 255, 0))
    pixels[32:, 64:] = (0, 0, 255)
    result = await judged(agent, "segmenter", pixels)
    told = [
        (one.name, one.pixel_anomaly.hex_color, one.pixel_anomaly.total_percentage_area) for one in result.anomalies
    ]
    assert told == [
        ("background", "#FFFFFF", pytest.approx(0.5)), ("green", "#14A3B3", pytest.approx(0.25)),
        ("blue", "#F76902", pytest.approx(0.25)),
    ]  # fmt: skip
    assert sum(area for _, _, area in told) == pytest.approx(1)
    mask = np.frombuffer(result.anomaly_mask.byte_data, np.uint8).reshape(64, 128, 3)
    assert [mask[10, 10].tolist(), mask[50, 100].tolist()] == [[20, 163, 179], [247, 105, 2]]
    assert result.is_anomalous
    assert result.confidence > 0.9
    right = await judged(agent, "segmenter", inspection.dark())
    (background,) = right.anomalies
    assert (right.is_anomalous, right.confidence, background.pixel_anomaly.total_percentage_area) == (False, 1, 1)


async def test_a_classifier_judges_by_its_normal_classes_and_has_neither_mask_nor_anomalies(agent) -> None:
    await started(agent, "classifier")
    wrong = await judged(agent, "classifier", np.full((64, 64, 3), (255, 0, 0), np.uint8))
    right = await judged(agent, "classifier", inspection.dark())
    assert (wrong.is_anomalous, right.is_anomalous) == (True, False)
    assert wrong.confidence > 0.9
    for result in (wrong, right):
        assert not result.HasField("anomaly_mask")
        assert not result.anomalies


async def test_a_picture_comes_and_its_mask_leaves_through_memory_that_the_client_shares(agent, segment: Path) -> None:
    await started(agent, "inspector")
    pixels, size = inspection.spotted(), 128 * 64 * 3
    segment.write_bytes(pixels.tobytes() + b"\1" * size)
    handle = {"name": f"/{segment.name}", "size": size}
    for field in ("shared_memory_handle", "shared_memory_handle_of_2022"):
        there = PROTO.SharedMemoryHandle(**handle, offset=size)
        answer = await agent.call(
            "DetectAnomalies", model_component="inspector",
            bitmap=PROTO.Bitmap(width=128, height=64, shared_memory_handle=PROTO.SharedMemoryHandle(**handle)),
            anomaly_mask_params=PROTO.AnomalyMaskParams(**{field: there}),
        )  # fmt: skip
        mask = answer.detect_anomaly_result.anomaly_mask
        assert (mask.width, mask.height, mask.shared_memory_handle) == (128, 64, there)
        expected = (await judged(agent, "inspector", pixels)).anomaly_mask.byte_data
        assert segment.read_bytes() == pixels.tobytes() + expected
        segment.write_bytes(pixels.tobytes() + b"\1" * size)


async def test_the_largest_picture_is_taken_and_its_mask_is_as_large(agent) -> None:
    await started(agent, "inspector")
    result = await judged(agent, "inspector", inspection.dark(4096, 4096))
    assert len(result.anomaly_mask.byte_data) == 4096 * 4096 * 3
    assert result.anomalies[0].pixel_anomaly.total_percentage_area == 1


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", ["StartModel", "StopModel", "DescribeModel", "DetectAnomalies"])
async def test_no_name_is_an_invalid_argument_and_an_unknown_one_is_not_found(tmp_path, rpc: str) -> None:
    more = {"bitmap": bitmap(inspection.dark())} if rpc == "DetectAnomalies" else {}
    async with serving(tmp_path, {}) as agent:
        assert await agent.refused(rpc, model_component="", **more) == "INVALID_ARGUMENT"
        assert await agent.refused(rpc, model_component="../secret", **more) == "INVALID_ARGUMENT"
        assert await agent.refused(rpc, model_component="nobody", **more) == "NOT_FOUND"


async def test_a_picture_that_is_none_is_an_invalid_argument_before_anything_else(agent, segment: Path) -> None:
    shared = PROTO.SharedMemoryHandle(name=f"/{segment.name}", size=64 * 64 * 3)
    small = PROTO.SharedMemoryHandle(name=f"/{segment.name}", size=100)
    wrong = [
        PROTO.Bitmap(width=63, height=64, byte_data=bytes(63 * 64 * 3)),
        PROTO.Bitmap(width=4097, height=64, byte_data=bytes(4097 * 64 * 3)),
        PROTO.Bitmap(width=-64, height=-64, byte_data=bytes(64 * 64 * 3)),
        PROTO.Bitmap(width=64, height=64, byte_data=bytes(64 * 64 * 3 - 1)),
        PROTO.Bitmap(width=64, height=64, byte_data=bytes(64 * 64 * 3 + 1)),
        PROTO.Bitmap(width=64, height=64),
        PROTO.Bitmap(width=65, height=64, shared_memory_handle=shared),
        PROTO.Bitmap(width=512, height=512, shared_memory_handle=PROTO.SharedMemoryHandle(name=segment.name)),
        PROTO.Bitmap(width=64, height=64, shared_memory_handle=PROTO.SharedMemoryHandle(name="/../etc/passwd")),
        PROTO.Bitmap(width=64, height=64, shared_memory_handle=PROTO.SharedMemoryHandle(name="/verge-nowhere")),
    ]
    for each in wrong:
        assert await agent.refused("DetectAnomalies", model_component="inspector", bitmap=each) == "INVALID_ARGUMENT"
    whole = bitmap(inspection.dark(64, 64))
    for place in (small, PROTO.SharedMemoryHandle(name="/verge-nowhere"), PROTO.SharedMemoryHandle(
        name=f"/{segment.name}", offset=2**63)):  # fmt: skip
        params = PROTO.AnomalyMaskParams(shared_memory_handle=place)
        refused = await agent.refused(
            "DetectAnomalies", model_component="inspector", bitmap=whole, anomaly_mask_params=params
        )
        assert refused == "INVALID_ARGUMENT"


async def test_a_model_that_does_not_run_judges_nothing(agent) -> None:
    whole = bitmap(inspection.dark())
    assert await agent.refused("DetectAnomalies", model_component="inspector", bitmap=whole) == "FAILED_PRECONDITION"


async def test_more_requests_than_may_wait_are_refused_as_too_many(tmp_path) -> None:
    options = LookoutOptions(models={"line": ModelOptions(source=str(inspection.inspector(tmp_path / "m")))}, at_once=2)
    async with (
        surroundings(tmp_path) as here,
        wiring.lookout(here, options),
        client(PROTO, tmp_path / "lookout.sock") as agent,
    ):
        await started(agent, "line")
        large = bitmap(inspection.dark(2048, 2048))
        calls = [agent.call("DetectAnomalies", model_component="line", bitmap=large) for _ in range(12)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = {getattr(one, "code", lambda: None)() for one in outcomes}
    assert {code.name for code in codes if code is not None} == {"RESOURCE_EXHAUSTED"}
    assert None in codes
