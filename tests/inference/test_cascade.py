"""A second model that looks at what the first one detects: what it is given, and where its answers lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.models import ModelOptions, Then
from agent.config.streams import FrameLimits
from agent.errors import ConfigError, ModelRefusedError
from agent.frames.recognise import recognise
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.predictions import Classification, Detection
from agent.inference.runtime.cascade import Stage, extended
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.stopwatch import Stopwatch

pytestmark = pytest.mark.arch

WIDTH, HEIGHT = 400, 300
BOX = {"x": 0.2, "y": 0.3, "width": 0.4, "height": 0.4}


class Seer:
    """A model that says where the brightest spot of its picture is, or what it is told to say."""

    digest = ""

    def __init__(self, said: list[dict[str, Any]] | None = None) -> None:
        self.said, self.seen = said, list[np.ndarray]()

    def describe(self) -> dict[str, Any]:
        return {}

    def look(self, view: Picture, _watch: Stopwatch) -> list[dict[str, Any]]:
        self.seen.append(view.pixels)
        if self.said is not None:
            return self.said
        row, column = np.unravel_index(int(view.pixels.sum(axis=2).argmax()), view.pixels.shape[:2])
        x, y = (column + 0.5) / view.pixels.shape[1], (row + 0.5) / view.pixels.shape[0]
        return [{"keypoints": [{"x": view.x + x * view.width, "y": view.y + y * view.height}]}]


def detection(label: str = "face", **more: Any) -> dict[str, Any]:
    return {"label": label, "label_id": 0, "score": 0.9, "box": BOX, **more}


def frame_with_spot(x: int, y: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.circle(pixels, (x, y), 3, (120, 120, 120), cv2.FILLED)
    cv2.circle(pixels, (x, y), 1, (255, 255, 255), cv2.FILLED)
    return pixels


def run(predictions, *stages: Stage, pixels: np.ndarray | None = None) -> list[dict[str, Any]]:
    return extended(predictions, frame_with_spot(150, 150) if pixels is None else pixels, stages, Stopwatch())


def where(predictions: list[dict[str, Any]]) -> tuple[float, float]:
    point = predictions[0]["parts"][0]["keypoints"][0]
    return point["x"] * WIDTH, point["y"] * HEIGHT


def test_what_is_seen_in_a_crop_lies_where_it_is_in_the_frame() -> None:
    assert where(run([detection()], Stage(Seer()))) == pytest.approx((150, 150), abs=1.5)


@pytest.mark.parametrize("degrees", ["0", "90", "180", "270"])
def test_a_turned_crop_is_upright_for_those_behind_and_places_are_the_frames(degrees) -> None:
    seer = Seer()
    classifier = Seer([{"label": degrees, "label_id": 0, "score": 0.95}])
    told = run([detection()], Stage(classifier, turn=True), Stage(seer))
    assert where(told) == pytest.approx((150, 150), abs=1.5)
    assert seer.seen[0].shape[:2] == ((120, 160) if degrees in ("0", "180") else (160, 120))
    assert len(told[0]["parts"]) == 1


def test_who_is_not_sure_turns_nothing() -> None:
    seer = Seer()
    doubtful = Seer([{"label": "90", "label_id": 1, "score": 0.7}])
    run([detection()], Stage(doubtful, turn=True), Stage(seer))
    assert seer.seen[0].shape[:2] == (120, 160)


@settings(max_examples=60, deadline=None)
@given(st.floats(-180, 180), st.floats(30, 110), st.floats(12, 60), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_a_rotated_box_is_straightened_and_what_is_in_it_lies_where_it_was(degrees, width, height, u, v) -> None:
    turn = np.array([[math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))],
                     [math.sin(math.radians(degrees)), math.cos(math.radians(degrees))]])  # fmt: skip
    own = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    corners = own @ turn.T + (200, 150)
    spot = np.array([(u - 0.5) * width, (v - 0.5) * height]) @ turn.T + (200, 150)
    pixels = frame_with_spot(*(round(value) for value in spot))
    seer = Seer()
    told = run([detection(corners=(corners / (WIDTH, HEIGHT)).tolist())], Stage(seer, align="corners"), pixels=pixels)
    assert where(told) == pytest.approx(tuple(spot), abs=2.5)
    rows, columns = seer.seen[0].shape[:2]
    assert columns * 1.6 >= rows  # what stands was laid down


def test_a_face_is_given_with_its_points_where_recognition_was_trained_to_have_them() -> None:
    points = [(120, 100), (170, 110), (140, 140), (120, 165), (160, 170)]
    pixels = frame_with_spot(*points[2])
    seer = Seer()
    keypoints = [{"x": x / WIDTH, "y": y / HEIGHT} for x, y in points]
    told = run([detection(keypoints=keypoints)], Stage(seer, align="face"), pixels=pixels)
    assert seer.seen[0].shape == (112, 112, 3)
    assert where(told) == pytest.approx(points[2], abs=2)
    row, column = np.unravel_index(int(seer.seen[0].sum(axis=2).argmax()), (112, 112))
    assert (column, row) == pytest.approx((56, 72), abs=6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-180, 180), st.floats(20, 60), st.booleans())
def test_a_hand_or_a_face_is_cut_out_upright_and_what_is_seen_in_it_lies_where_it_was(
    degrees, distance, is_hand
) -> None:
    angle = math.radians(degrees)
    first = np.array([200.0, 150.0])
    second = first + distance * np.array([math.cos(angle), math.sin(angle)])
    names = ("wrist", "middle_finger_mcp") if is_hand else ("right_eye", "left_eye")
    keypoints = [
        {"x": x / WIDTH, "y": y / HEIGHT, "name": name} for name, (x, y) in zip(names, (first, second), strict=True)
    ]
    middle = (first + second) / 2
    box = {"x": (middle[0] - 40) / WIDTH, "y": (middle[1] - 40) / HEIGHT, "width": 80 / WIDTH, "height": 80 / HEIGHT}
    seer = Seer()
    pixels = frame_with_spot(*(round(value) for value in second))
    told = run([detection(box=box, keypoints=keypoints)], Stage(seer, align="upright"), pixels=pixels)
    assert where(told) == pytest.approx(tuple(second), abs=2.5)
    (seen,) = seer.seen
    side = 80 * (2.6 if is_hand else 1.5)
    assert seen.shape[:2] == pytest.approx((side, side), abs=1)
    row, column = np.unravel_index(int(seen.sum(axis=2).argmax()), seen.shape[:2])
    if is_hand:  # above the wrist, which lies below the middle of the square
        assert (column, row) == pytest.approx((side / 2, side / 2 + 40 - distance / 2), abs=2.5)
    else:  # right of the other eye
        assert (column, row) == pytest.approx((side / 2 + distance / 2, side / 2), abs=2.5)


def test_a_face_without_points_is_given_as_its_box() -> None:
    seer = Seer()
    run([detection()], Stage(seer, align="face", margin=0.25))
    assert seer.seen[0].shape[:2] == (180, 240)


def test_a_stage_looks_at_its_classes_alone_and_at_no_more_than_it_may() -> None:
    seer = Seer([{"label": "scratch", "label_id": 0, "score": 0.5}])
    stage = Stage(seer, classes=frozenset({"part"}), most=2)
    told = run([detection("person"), *[detection("part") for _ in range(3)]], stage)
    assert ["parts" in one for one in told] == [False, True, True, False]
    assert len(seer.seen) == 2


def test_texts_stand_in_place_of_their_boxes_in_reading_order() -> None:
    boxes = [(0.5, 0.11), (0.1, 0.5), (0.1, 0.1), (0.6, 0.52)]
    texts = iter(["second", "third", "first", "fourth"])

    class Reader(Seer):
        def look(self, _view: Picture, _watch: Stopwatch) -> list[dict[str, Any]]:
            return [{"text": next(texts), "score": 0.9}]

    detections = [detection(box={"x": x, "y": y, "width": 0.3, "height": 0.1}) for x, y in boxes]
    told = run(detections, Stage(Reader(), instead=True))
    assert [one["text"] for one in told] == ["first", "second", "third", "fourth"]
    assert told[0]["box"] == detections[2]["box"]


def test_boxes_that_there_was_no_room_to_read_stay_boxes() -> None:
    reader = Seer([{"text": "A", "score": 0.9}])
    told = run([detection() for _ in range(3)], Stage(reader, instead=True, most=2))
    assert [("text" in one, "label" in one) for one in told] == [(False, True), (True, False), (True, False)]


def test_a_box_of_which_nothing_is_in_the_frame_has_no_parts() -> None:
    seer = Seer()
    told = run([detection(box={"x": 0.2, "y": 0.3, "width": 0.0001, "height": 0.4})], Stage(seer))
    assert not seer.seen
    assert "parts" not in told[0]


async def test_the_shipped_detector_and_classifier_say_together_which_cat_it_is(tmp_path: Path) -> None:
    options = ModelOptions(source="detector", then=(Then(model="classifier", margin=0.1, options={"top_k": 1}),))
    data = (SAMPLES.parent / "images" / "chelsea.jpg").read_bytes()
    async with loaded(resolve(options, tmp_path)) as (plane, metadata):
        answer = await plane.infer(MODEL, recognise(data, None, FrameLimits()))
    cat = answer.predictions[0]
    assert isinstance(cat, Detection)
    assert cat.label == "Cat"
    assert cat.parts == (Classification("Egyptian cat", 285, pytest.approx(0.81, abs=0.05)),)
    assert [stage.task for stage in metadata.stages] == ["image-classification"]
    assert metadata.digest not in ("", metadata.stages[0].digest)


def test_a_manifest_names_the_models_behind_it_beside_itself(tmp_path: Path) -> None:
    folder = tmp_path / "plates"
    folder.mkdir()
    for name in ("find.onnx", "read.onnx", "plates.txt", "letters.txt"):
        (folder / name).write_text("x")
    (folder / "manifest.toml").write_text(
        'file = "find.onnx"\nlabels = "plates.txt"\n'
        '[[then]]\nmodel = "read.onnx"\nlabels = "letters.txt"\nclasses = ["plate"]\n'
    )
    spec = resolve(ModelOptions(source=str(folder)), tmp_path)
    ((_, behind),) = spec.stages
    assert behind.manifest.file == str(folder / "read.onnx")
    assert behind.manifest.labels == str(folder / "letters.txt")
    assert spec.request(1)["model"]["then"][0]["classes"] == ("plate",)


def test_a_model_behind_that_is_not_there_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ModelRefusedError, match="there is no model 'clasifier'") as refused:
        resolve(ModelOptions(source="detector", then=(Then(model="clasifier"),)), tmp_path)
    assert refused.value.path == "then[0].model"
    assert "classifier" in refused.value.hint


def test_models_that_look_at_each_others_detections_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("x")
    (tmp_path / "manifest.toml").write_text(f'file = "model.onnx"\n[[then]]\nmodel = "{tmp_path}"\n')
    with pytest.raises(ConfigError, match="more than 3 models") as refused:
        resolve(ModelOptions(source=str(tmp_path)), tmp_path)
    assert refused.value.code == "stages-too-many"


async def test_what_keeps_a_model_behind_from_loading_names_it(tmp_path: Path) -> None:
    (tmp_path / "breeds.onnx").write_bytes(b"no network")
    spec = resolve(ModelOptions(source="detector", then=(Then(model="breeds.onnx"),)), tmp_path)
    with pytest.raises(ModelRefusedError, match=r"the model behind it, breeds\.onnx: "):
        async with loaded(spec):
            pass
