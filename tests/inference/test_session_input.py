"""Tiny real networks that detect what is bright, fed in every way that there is."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.config.models import ModelOptions, tile
from agent.errors import ConfigError
from agent.frames.frame import Picture
from agent.greengrass.deployments import blocks
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import resolve
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.session import Session
from tests.support import models

WIDTH, HEIGHT = 640, 480
SPOT = (96, 120, 64, 60)
FAR = (512, 384, 32, 24)


def frame(*spots, encoding: str = ".png", size=(WIDTH, HEIGHT)) -> bytes:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y, width, height in spots:
        pixels[y : y + height, x : x + width] = 255
    return cv2.imencode(encoding, pixels, [cv2.IMWRITE_JPEG_QUALITY, 95] if encoding == ".jpg" else [])[1].tobytes()


def session(path: Path, **told) -> Session:
    return Session({"file": str(path), "options": {"normalized": False}, "input": {"resize": "stretch", **told}})


def found(loaded: Session, *spots, encoding: str = ".png") -> list[tuple[float, ...]]:
    """The boxes in the frame's pixels, from the left."""
    answer = loaded.infer(frame(*spots, encoding=encoding), encoding.strip(".").replace("jpg", "jpeg"))
    boxes = [one["box"] for one in answer.predictions]
    sides = [(box["x"] * WIDTH, box["y"] * HEIGHT, box["width"] * WIDTH, box["height"] * HEIGHT) for box in boxes]
    return sorted(sides)


def near(*spots, pixels: float):
    return [pytest.approx(spot, abs=pixels) for spot in spots]


RESIZES = [
    {"resize": "stretch"},
    {"resize": "letterbox"},
    {"resize": "letterbox", "place": "top-left", "pad": 0},
    {"resize": "crop"},
    {"resize": "crop", "crop": 0.8},
]


@pytest.fixture(scope="module")
def bright(tmp_path_factory) -> Path:
    return models.onnx_bright(tmp_path_factory.mktemp("bright") / "bright.onnx", (64, 64))


@pytest.mark.parametrize("told", RESIZES, ids=lambda told: "-".join(map(str, told.values())))
@pytest.mark.parametrize("encoding", [".png", ".jpg"])
def test_a_box_is_where_it_is_in_the_frame_however_the_frame_was_resized(bright, told, encoding) -> None:
    middle = (272, 200, 64, 60)
    assert found(session(bright, **told), middle, encoding=encoding) == near(middle, pixels=11)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8"])
def test_a_picture_is_of_the_type_that_the_network_reads(tmp_path, dtype) -> None:
    path = models.onnx_bright(tmp_path / "m.onnx", (64, 64), dtype=dtype)
    assert found(session(path, resize="stretch"), SPOT) == near(SPOT, pixels=11)


@pytest.mark.parametrize(
    "told",
    [
        {"width": 64, "height": 48},
        {"width": 96, "height": 96, "resize": "shortest", "multiple": 32},
        {"width": 96, "height": 96, "resize": "longest"},
        {"height": 96, "resize": "height", "place": "top-left"},
    ],
)
def test_open_sides_follow_the_manifest_or_the_frame(tmp_path, told) -> None:
    path = models.onnx_bright(tmp_path / "m.onnx", (None, None), batch=None)
    assert found(session(path, **told), SPOT) == near(SPOT, pixels=11)


def test_frames_of_changing_proportions_pass_through_a_network_of_open_size(tmp_path) -> None:
    loaded = session(models.onnx_bright(tmp_path / "m.onnx", (None, None)), width=64, height=64, resize="shortest")
    for size in ((640, 480), (480, 640), (200, 800), (640, 480)):
        answer = loaded.infer(frame((40, 80, 80, 80), size=size), "png")
        [box] = [one["box"] for one in answer.predictions]
        assert box["x"] * size[0] == pytest.approx(40, abs=8)
        assert (box["y"] + box["height"]) * size[1] == pytest.approx(160, abs=8)
        assert (answer.width, answer.height) == size


def test_a_network_for_ten_pictures_answers_one_and_says_so(tmp_path) -> None:
    loaded = session(models.onnx_bright(tmp_path / "m.onnx", (64, 64), batch=10))
    assert found(loaded, SPOT) == near(SPOT, pixels=11)
    assert "10 pictures at once" in loaded.describe()["recognition"]["notes"][-1]


@pytest.mark.parametrize("told", RESIZES[:3], ids=lambda told: "-".join(map(str, told.values())))
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_a_network_that_asks_for_the_frames_size_answers_rightly_however_the_frame_was_placed(
    tmp_path, told, dtype
) -> None:
    path = models.onnx_bright(tmp_path / "m.onnx", (64, 64), told=("orig_target_sizes", dtype))
    assert found(session(path, **told), SPOT) == near(SPOT, pixels=11)


def test_a_second_input_that_nobody_knows_is_refused_until_the_manifest_tells_it(tmp_path) -> None:
    path = models.onnx_bright(tmp_path / "m.onnx", (64, 64), told=("sides", "float32"))
    with pytest.raises(ModelError, match="more than a picture: sides of float32"):
        session(path)
    assert found(session(path, others={"sides": ["width", "height"]}), SPOT) == near(SPOT, pixels=11)


@pytest.mark.parametrize(
    ("tile", "regions", "encoding"),
    [
        ({"columns": 3, "rows": 2}, None, ".png"),
        ({"columns": 3, "rows": 2}, None, ".jpg"),
        ({"size": 200, "overlap": 0.25}, None, ".jpg"),
        ({"columns": 2, "rows": 2}, [{"x": 0, "y": 0, "width": 1, "height": 1}], ".png"),
    ],
)
def test_what_several_tiles_find_lies_where_it_is_in_the_frame(bright, tile, regions, encoding) -> None:
    told = {"tile": tile, **({"regions": regions} if regions else {})}
    assert found(session(bright, **told), SPOT, FAR, encoding=encoding) == near(SPOT, FAR, pixels=6)


def test_a_tile_sees_what_is_too_small_in_the_whole_frame(bright) -> None:
    speck = (301, 201, 4, 4)
    assert found(session(bright), speck) == []
    [one] = found(session(bright, tile={"columns": 4, "rows": 4}), speck)
    assert one == pytest.approx(speck, abs=4)


def test_the_whole_frame_joins_what_the_tiles_cut(bright) -> None:
    large = (40, 40, 560, 400)
    assert len(found(session(bright, tile={"columns": 3, "rows": 3}), large)) >= 1
    assert found(session(bright, tile={"columns": 3, "rows": 3, "with_whole": True}), large) == near(large, pixels=11)


def test_nothing_outside_the_regions_is_found(bright) -> None:
    left = {"x": 0, "y": 0, "width": 0.5, "height": 1}
    right = [[0.6, 0.6], [1, 0.6], [1, 1]]
    assert found(session(bright, regions=[left]), SPOT, FAR) == near(SPOT, pixels=11)
    assert found(session(bright, regions=[left, right]), SPOT, FAR) == near(SPOT, FAR, pixels=11)
    # In the bounding box of the triangle, and not in the triangle.
    assert found(session(bright, regions=[right]), (400, 440, 32, 32)) == []


COUNTING = """
import numpy as np
from agent.inference.runtime.base import Backend, TensorInfo

class Counting(Backend):
    inputs = [TensorInfo("picture", (1, 8, 8, 3), "uint8")]
    outputs = [TensorInfo("scores", (1, 2), "float32")]

    def __init__(self, path, threads, accelerator, options):
        self.runs = 0

    def run(self, arrays):
        self.runs += 1
        return [np.array([[0.25, 0.75]], np.float32)]
"""


@pytest.mark.parametrize(
    ("tile", "first", "each"),
    [
        ({"columns": 3, "rows": 2, "with_whole": True}, 7, 7),
        ({"size": 480, "overlap": 0.0}, 4 * 3, 2),
        ({"size": 640}, 4 * 2, 1),
    ],
)
def test_every_tile_is_run_before_the_first_frame_so_that_the_warm_up_tells_how_long_an_answer_takes(
    tmp_path, tile, first, each
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    backend = f"{tmp_path / 'counting.py'}:Counting"
    loaded = Session({"file": str(tmp_path / "counting.py"), "backend": backend, "input": {"tile": tile}})
    recognised = 1
    assert loaded.backend.runs == recognised + first
    answer = loaded.infer(frame(SPOT), "png")
    assert loaded.backend.runs == recognised + first + each
    assert set(answer.timing_ms) == {"decode", "preprocess", "infer", "postprocess"}


@pytest.mark.parametrize(
    "told", [{"tile": {"columns": 2}}, {"regions": [{"x": 0, "y": 0, "width": 0.5, "height": 1}] * 2}]
)
def test_a_task_whose_parts_make_no_whole_is_refused_when_it_is_loaded(tmp_path, told) -> None:
    path = models.onnx_constant(tmp_path / "m.onnx", {"out": np.zeros((1, 4, 4, 2))})
    with pytest.raises(ModelError, match="one tensor together"):
        Session({"file": str(path), "task": "tensors", "input": {"resize": "stretch", **told}})


@pytest.mark.parametrize(("shape", "named"), [((1, 2, 3, 8, 8), "several frames at once"), ((1, 128), "one picture")])
def test_an_input_that_is_no_picture_is_refused_with_what_to_give(tmp_path, shape, named) -> None:
    with pytest.raises(ModelError) as refused:
        Session({"file": str(models.onnx_identity(tmp_path / "m.onnx", shape))})
    assert refused.value.code == "input-unsupported"
    assert named in refused.value.hint


def test_every_way_of_resizing_works_with_tiles(bright) -> None:
    for told, encoding in product(RESIZES[:3], (".png", ".jpg")):
        loaded = session(bright, tile={"columns": 2, "rows": 2}, **told)
        assert found(loaded, SPOT, FAR, encoding=encoding) == near(SPOT, FAR, pixels=9)


async def test_tiles_and_regions_of_a_manifest_reach_the_worker_and_its_description_comes_back(tmp_path) -> None:
    models.onnx_bright(tmp_path / "m.onnx", (64, 64))
    (tmp_path / "manifest.toml").write_text("""
        file = "m.onnx"
        options = {normalized = false}
        [input]
        regions = [{x = 0, y = 0, width = 0.5, height = 1}, [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]]
        [input.tile]
        columns = 2
        rows = 2
    """)
    spec = resolve(ModelOptions(source=str(tmp_path), input={"resize": "letterbox"}), tmp_path)
    async with loaded(spec) as (plane, description):
        answer = await plane.infer(MODEL, Picture(frame(SPOT, FAR), "png", WIDTH, HEIGHT))
    boxes = sorted((one.box.x * WIDTH, one.box.y * HEIGHT) for one in answer.predictions)
    assert boxes == near(SPOT[:2], FAR[:2], pixels=6)
    facts = {fact.key: (fact.value, fact.source) for fact in description.input}
    assert facts["resize"] == ("letterbox", "manifest")
    assert facts["width"] == (64, "shape")


def test_a_recipe_says_tiles_and_regions_with_the_numbers_that_a_cloud_makes_of_them(bright) -> None:
    told = {"tile": {"columns": 2.0, "rows": 2.0, "overlap": 0.0}, "regions": [[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]}
    block = blocks.model("m", {"Verge": {"Manifest": {"Input": told}}})
    assert found(session(bright, **block.manifest.input), FAR) == near(FAR, pixels=6)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("3x2", {"columns": 3, "rows": 2}),
        ("640", {"size": 640}),
        (" 3X2,Whole ", {"columns": 3, "rows": 2, "with_whole": True}),
        ("640,overlap=0.3,whole", {"size": 640, "overlap": 0.3, "with_whole": True}),
    ],
)
def test_tiles_are_written_in_a_word(bright, text, table) -> None:
    assert tile(text) == table
    assert found(session(bright, tile=tile(text)), SPOT) == near(SPOT, pixels=9)


@pytest.mark.parametrize(
    "text", ["", "x", "3x", "3x2x1", "3x2,some", "whole", "1e3", "3x2,overlap=", "٣x٢", "3x2,whole,"]
)
def test_a_word_that_says_no_tiles_is_refused_with_examples(text) -> None:
    with pytest.raises(ConfigError) as refused:
        tile(text)
    assert "3x2" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page", "download the file itself"),
        (b"", "empty", "copy it again"),
    ],
)
@pytest.mark.parametrize("name", ["m.onnx", "m.tflite"])
def test_what_lies_in_a_model_s_place_is_named_with_what_to_do(tmp_path, name, content, what, hint) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"holds no model: it is {what}") as refused:
        session(tmp_path / name)
    assert refused.value.code == "model-broken"
    assert hint in refused.value.hint
