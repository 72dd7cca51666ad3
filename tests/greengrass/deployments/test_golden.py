"""Golden frames from a folder to a verdict, with real models in real workers."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.errors import ConfigError, ModelRefusedError
from agent.frames.recognise import recognise
from agent.greengrass.deployments.golden import GoldenLimits, GoldenMismatchError, blank, check, load
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.predictions import Classification
from agent.inference.values import Answer
from agent.results.comparison.recording import record
from tests.support import unruly
from tests.support.models import onnx_constant, tflite_colours
from tests.support.pictures import encode, picture

CHELSEA = SAMPLES.parent / "images" / "chelsea.jpg"
LIMITS = GoldenLimits()


def folder(path: Path, *entries, suffix="json") -> Path:
    golden = path / "golden"
    golden.mkdir()
    for name, _ in entries:
        shutil.copyfile(CHELSEA, golden / name)
    pictures = [{"picture": name, "expect": expect} for name, expect in entries]
    (golden / f"expected.{suffix}").write_text(json.dumps({"pictures": pictures}))
    return golden


def saying(*predictions):
    """Something that answers every picture with the same."""

    async def ask(_):
        return Answer(predictions=predictions, timing_ms={}, width=1, height=1)

    return ask


async def checked(source, golden: Path | None) -> None:
    async with loaded(resolve(ModelOptions(source=str(source)), Path())) as (plane, _):
        await check(lambda picture: plane.infer(MODEL, picture), golden)


CAT = {"label": "Egyptian cat", "score": 0.6, "tolerance": 0.2}


async def test_a_slow_model_gets_the_time_that_it_needs(tmp_path) -> None:
    spec = unruly.spec(tmp_path, backend_options={"every_s": 0.2})
    async with loaded(spec) as (_, model):
        assert GoldenLimits.of(model).answer_timeout_s == LIMITS.answer_timeout_s
        slow = GoldenLimits.of(replace(model, longest_ms=30_000.0))
        assert slow.answer_timeout_s == 600.0


# -- real models -------------------------------------------------------------------------------------------------------


async def test_a_model_that_answers_as_expected_passes(tmp_path):
    await checked("classifier", folder(tmp_path, ("cat.jpg", CAT), ("same.jpg", {"label": "Egyptian cat"})))


async def test_a_model_that_answers_otherwise_is_refused_with_what_came(tmp_path):
    golden = folder(tmp_path, ("cat.jpg", {"label": "tabby", "score": 0.81}))
    with pytest.raises(
        GoldenMismatchError, match=r"golden/cat\.jpg: expected tabby ≥ 0\.71, got Egyptian cat 0\.\d\d"
    ) as caught:
        await checked("classifier", golden)
    assert caught.value.code == "MODEL_DISAGREES"
    assert caught.value.error_type == "USER_COMPONENT_ERROR"
    assert "--record-golden" in caught.value.hint


async def test_what_a_detector_says_now_is_what_it_says_later(tmp_path):
    async with loaded(resolve(ModelOptions(source="detector"), Path())) as (plane, _):
        told = await plane.infer(MODEL, recognise(CHELSEA.read_bytes(), None, FrameLimits()))
        golden = folder(tmp_path, ("cat.jpg", record(told.predictions)))
        await check(lambda picture: plane.infer(MODEL, picture), golden)
        away = [replace(one, box=replace(one.box, x=5)) for one in told.predictions]
        with pytest.raises(GoldenMismatchError, match=r"expected Cat ≥ .* at .*, got"):
            await check(saying(*away), golden)


@pytest.mark.parametrize("source", ["classifier", "detector"])
async def test_without_golden_frames_a_model_answers_a_blank_one(source, tmp_path):
    await checked(source, None)
    await checked(source, tmp_path / "golden")


async def test_a_model_that_answers_a_blank_frame_with_no_number_is_refused(tmp_path):
    for number in ("nan", "inf"):
        model = onnx_constant(tmp_path / f"{number}.onnx", {"x": np.full((1, 4, 2), float(number))})
        with pytest.raises(GoldenMismatchError, match="a blank frame"):
            await checked(model, None)


async def test_the_tensors_of_a_network_are_compared_by_number(tmp_path):
    shutil.copyfile(tflite_colours(tmp_path / "colours.tflite"), tmp_path / "model.tflite")
    (tmp_path / "manifest.toml").write_text('file = "model.tflite"\ntask = "tensors"\n')
    golden = folder(tmp_path, ("red.png", {"tensors": {"means": {"data": [[255, 0, 0]]}}, "atol": 0.5}))
    (golden / "red.png").write_bytes(encode(np.full((8, 8, 3), (0, 0, 255), np.uint8), "png"))
    async with loaded(resolve(ModelOptions(source=str(tmp_path), input={"mean": 0, "std": 1}), Path())) as (plane, _):
        await check(lambda each: plane.infer(MODEL, each), golden)
        (golden / "red.png").write_bytes(encode(np.full((8, 8, 3), (255, 0, 0), np.uint8), "png"))
        with pytest.raises(GoldenMismatchError, match=r"expected means\[0\] = 255 ± .*, got 0"):
            await check(lambda each: plane.infer(MODEL, each), golden)


# -- what can go wrong -------------------------------------------------------------------------------------------------


async def test_a_model_that_refuses_a_golden_frame_is_refused_with_the_reason(tmp_path):
    async def ask(_):
        raise ModelRefusedError("it wants four channels", hint="send four")

    with pytest.raises(
        GoldenMismatchError, match=r"golden/cat\.jpg: the model could not answer: it wants four channels"
    ):
        await check(ask, folder(tmp_path, ("cat.jpg", CAT)))


async def test_a_model_that_never_answers_is_given_up():
    with pytest.raises(GoldenMismatchError, match=r"a blank frame: no answer within 0\.01 s"):
        await check(lambda _: asyncio.Event().wait(), None, GoldenLimits(answer_timeout_s=0.01))


async def test_every_difference_is_told_up_to_a_few(tmp_path):
    golden = folder(tmp_path, *((f"{number}.jpg", CAT) for number in range(5)))
    with pytest.raises(GoldenMismatchError) as caught:
        await check(saying(Classification("dog", 1, 1.0)), golden)
    assert caught.value.message.count("got dog 1.00") == 3
    assert caught.value.message.endswith("; and 2 more")


def test_what_is_expected_may_be_written_in_toml(tmp_path):
    golden = folder(tmp_path, ("cat.jpg", CAT))
    as_json = load(golden, LIMITS)
    (golden / "expected.json").unlink()
    lines = '[[pictures]]\npicture = "cat.jpg"\nexpect = { label = "Egyptian cat", score = 0.6, tolerance = 0.2 }\n'
    (golden / "expected.toml").write_text(lines)
    assert load(golden, LIMITS) == as_json


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"pictures": []}', '{"pictures": [{"picture": "cat.jpg"}]}', '{"pictures": 1}',
        '{"pictures": [{"picture": "no.jpg", "expect": {"label": "x"}}]}',
        '{"pictures": [{"picture": "../outside.jpg", "expect": {"label": "x"}}]}',
        '{"pictures": [{"picture": "/etc/hostname", "expect": {"label": "x"}}]}',
        '{"pictures": [{"picture": "", "expect": {"label": "x"}}]}',
        '{"pictures": [{"picture": "cat.jpg", "expect": {"label": "x"}}], "more": 1}',
        '{"a": ' * 5000,
        json.dumps({"pictures": [{"picture": "cat.jpg", "expect": {"label": "x"}}] * 65}),
        " " * (GoldenLimits().max_expected_bytes + 1),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, text):
    golden = folder(tmp_path, ("cat.jpg", CAT))
    shutil.copyfile(CHELSEA, tmp_path / "outside.jpg")
    (golden / "expected.json").write_text(text)
    with pytest.raises(ConfigError):
        load(golden, LIMITS)


def test_pictures_without_answers_or_with_two_are_refused(tmp_path):
    golden = folder(tmp_path, ("cat.jpg", CAT))
    (golden / "expected.toml").write_text("")
    with pytest.raises(ConfigError, match="has 2"):
        load(golden, LIMITS)
    for name in ("expected.json", "expected.toml"):
        (golden / name).unlink()
    with pytest.raises(ConfigError, match="has 0"):
        load(golden, LIMITS)


async def test_a_golden_frame_that_is_no_picture_is_refused(tmp_path):
    golden = folder(tmp_path, ("cat.jpg", CAT))
    (golden / "cat.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"golden/cat\.jpg is no picture"):
        await check(saying(), golden)


@pytest.mark.parametrize("side", [1, 3, 64, 65])
def test_the_blank_frame_is_a_grey_picture_to_everybody(side):
    made = blank(side)
    assert recognise(made.data, None, FrameLimits()) == made
    pixels = cv2.imdecode(np.frombuffer(made.data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (side, side, 3)
    assert (pixels == 128).all()
    assert picture("bmp")[:2] == made.data[:2]
