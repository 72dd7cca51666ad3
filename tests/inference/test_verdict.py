"""Whether something is wrong with a picture, and where: the manifest's table ``[anomaly]``, of every way to judge."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.errors import FrameError, ModelRefusedError
from agent.frames.frame import Picture
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import resolve
from agent.inference.plane import InferencePlane
from agent.inference.predictions import Anomaly, Classification, Segmentation
from agent.inference.runtime import decode
from agent.inference.runtime.base import Labels
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.painting import Painter
from agent.inference.runtime.palette import PALETTE
from agent.inference.runtime.verdict import Judge
from tests.support import inspection

NAMES = Labels({0: "background", 1: "scratch", 2: "dent"})
GOOD = Labels({0: "good", 1: "bad", 2: "worse"})


def judged(predictions: list[dict], labels: Labels = NAMES, task: str = "", **table: object) -> dict:
    first, *rest = Judge(table, labels, task)(predictions)
    assert rest == predictions[len(predictions) - len(rest) :]
    return first


def classes(**scores: float) -> list[dict]:
    return [
        {"label": label, "label_id": number, "score": score} for number, (label, score) in enumerate(scores.items())
    ]


def area(label: str, number: int, mask: np.ndarray) -> dict:
    return {"label": label, "label_id": number, "area": float(mask.mean()), "mask": mask}


# -- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "normal", "score"),
    [
        ({"good": 0.9, "bad": 0.06, "worse": 0.04}, ["good"], 0.1),
        ({"bad": 0.7, "worse": 0.2}, ["good"], 0.9),
        ({"good": 0.3, "bad": 0.3, "worse": 0.4}, ["good", "bad"], 0.4),
        ({"good": 0.7, "bad": 0.7}, ["good", "bad"], 0.0),
    ],
)
def test_classes_are_wrong_by_what_is_not_normal(scores, normal, score) -> None:
    told = judged(classes(**scores), GOOD, normal=normal)
    assert (told["score"], told["threshold"], told["anomalous"]) == (pytest.approx(score), 0.5, score >= 0.5)


def test_a_score_reaches_its_threshold_when_both_are_equal_in_four_digits() -> None:
    for score, anomalous in ((0.79996, True), (0.79994, False)):
        told = judged(classes(good=1 - score, bad=score), GOOD, normal=["good"], threshold=0.8)
        assert told["anomalous"] is anomalous


def test_areas_are_wrong_by_the_share_of_the_frame_that_is_neither_background_nor_normal() -> None:
    half, corner = np.zeros((10, 10), np.bool_), np.zeros((10, 10), np.bool_)
    half[:5], corner[9, :5] = True, True
    found = [area("scratch", 1, half), area("dent", 2, corner)]
    assert judged(found) == {"anomalous": True, "score": 0.55, "threshold": 0.0001}
    assert judged(found, normal=["scratch"])["score"] == pytest.approx(0.05)
    assert judged(found, threshold=0.6)["anomalous"] is False
    assert judged([], task="segmentation") == {"anomalous": False, "score": 0.0, "threshold": 0.0001}


def test_a_verdict_of_the_model_s_own_stays_unless_the_table_has_another_threshold() -> None:
    own = {"anomalous": True, "score": 0.6, "threshold": 0.5}
    assert judged([own]) == own
    assert judged([own], threshold=0.7) == {"anomalous": False, "score": 0.6, "threshold": 0.7}


def test_what_says_nothing_of_anomalies_stays_as_it_is() -> None:
    text = [{"text": "EXIT"}]
    assert Judge({}, NAMES)(text) == text


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"treshold": 0.5}, "did you mean anomaly.threshold"),
        ({"threshold": 1.5}, "from 0 to 1"),
        ({"normal": "good"}, "a list of texts"),
        ({"normal": ["fine"]}, "classes: background, dent, scratch"),
        ({"colors": ["red"]}, "#23A436"),
        ({"classes": [str(number) for number in range(300)]}, "255 are the most"),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_what_would_be(table, says) -> None:
    with pytest.raises(ModelError) as refused:
        Judge(table, NAMES)
    assert refused.value.code == "options-wrong"
    assert says in str(refused.value.hint)


def test_a_classifier_s_table_names_what_is_normal() -> None:
    with pytest.raises(ModelError, match=r"anomaly\.normal does not say"):
        Judge({"threshold": 0.5}, GOOD, "image-classification")


# -- paintings -------------------------------------------------------------------------------------------------------


def painted(predictions: list[dict], size: tuple[int, int], labels: Labels = NAMES, **table: object):
    canvas = bytearray(size[0] * size[1] * 3)
    told = Painter(Judge(table, labels, "segmentation"))(predictions, size, memoryview(canvas))
    assert told is not None
    return told.classes, np.frombuffer(canvas, np.uint8).reshape(size[1], size[0], 3)


@given(
    ids=arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_a_painting_has_the_frame_s_size_only_colours_of_its_classes_and_areas_that_are_their_shares(ids, size) -> None:
    found = [area(NAMES.name(number), number, ids == number) for number in (1, 2) if (ids == number).any()]
    told, pixels = painted(found, size)
    assert (told[0][0], told[0][1]) == ("background", "#FFFFFF")
    assert sum(share for _, _, share in told) == pytest.approx(1)
    for name, color, share in told:
        alike = (pixels == np.frombuffer(bytes.fromhex(color[1:]), np.uint8)).all(axis=2)
        assert alike.mean() == pytest.approx(share), name


def test_colours_are_those_of_the_table_or_the_palette_s_in_the_order_of_the_classes() -> None:
    whole = np.ones((4, 4), np.bool_)
    for table, color in (({}, PALETTE[2]), ({"colors": ["#000000", "#111111", "#ab22cd"]}, "#AB22CD")):
        told, pixels = painted([area("dent", 2, whole)], (8, 8), **table)
        assert told[1:] == [("dent", color, 1.0)]
        assert pixels[0, 0].tobytes().hex().upper() == color[1:]
    several = {painted([area("x", number, whole)], (4, 4), Labels({0: "background", number: "x"}))[0][1][1]
               for number in range(1, 60)}  # fmt: skip
    assert len(several) > 55


def test_what_lies_on_something_larger_is_seen_and_normal_classes_are_background() -> None:
    whole, corner = np.ones((4, 4), np.bool_), np.zeros((2, 2), np.bool_)
    corner[0, 0] = True
    told, pixels = painted([area("dent", 2, corner), area("scratch", 1, whole)], (4, 4))
    assert [name for name, _, _ in told] == ["background", "scratch", "dent"]
    assert [share for _, _, share in told] == [0, 0.75, 0.25]
    assert (pixels[0, 0] != pixels[3, 3]).any()
    told, _ = painted([area("dent", 2, corner), area("scratch", 1, whole)], (4, 4), normal=["scratch"])
    assert [(name, share) for name, _, share in told] == [("background", 0.75), ("dent", 0.25)]


@pytest.mark.parametrize(
    ("labels", "table", "told"),
    [
        (Labels({0: "scratch", 1: "dent"}), {}, ["background", "scratch", "dent"]),
        (Labels(), {"classes": ["backdrop", "dent"]}, ["background", "dent"]),
        (Labels(), {}, ["background", "class 1"]),
    ],
)
def test_the_first_class_is_the_background_where_it_is_told_or_called_so_or_nothing_is_called(
    labels, table, told
) -> None:
    ids = np.array([[0, 0], [1, 1]])
    names = Labels(dict(enumerate(table["classes"]))) if "classes" in table else labels
    found = [area(names.name(number), number, ids == number) for number in (0, 1)]
    assert [name for name, _, _ in painted(found, (4, 4), names, **table)[0]] == told


def test_of_a_map_the_anomaly_is_what_reaches_the_pixels_threshold() -> None:
    levels = np.zeros((8, 8), np.uint8)
    levels[:4] = 100
    own = {"anomalous": True, "score": 0.6, "threshold": 0.5, "map": levels}
    for table, areas in (({}, [1.0]), ({"pixel_threshold": 0.3}, [0.5, 0.5])):
        canvas = memoryview(bytearray(8 * 8 * 3))
        told = Painter(Judge(table, Labels()))([own], (8, 8), canvas)
        assert told is not None
        assert [share for _, _, share in told.classes] == areas


def test_where_nothing_has_a_place_nothing_is_painted_and_a_canvas_that_is_too_small_is_refused() -> None:
    paint = Painter(Judge({}, GOOD))
    assert paint(classes(good=1.0), (8, 8), memoryview(bytearray(8 * 8 * 3))) is None
    with pytest.raises(ModelError, match="8 × 8"):
        Painter(Judge({}, NAMES, "segmentation"))([], (8, 8), memoryview(bytearray(8)))


# -- through the door ------------------------------------------------------------------------------------------------


def picture(pixels: np.ndarray) -> Picture:
    return Picture(pixels.tobytes(), "rgb", pixels.shape[1], pixels.shape[0])


def test_pixels_are_taken_as_they_are_and_only_whole() -> None:
    pixels = inspection.spotted(6, 4, (1, 2, 3))
    assert (decode.decode(pixels.tobytes(), "rgb", None, (6, 4)).pixels == pixels[..., ::-1]).all()
    for size in ((6, 5), (0, 0), (-6, -4), None):
        with pytest.raises(ModelError):
            decode.decode(pixels.tobytes(), "rgb", None, size)


async def test_a_stream_s_results_begin_with_the_verdict_where_the_manifest_has_the_table(tmp_path: Path) -> None:
    judging = resolve(ModelOptions(source=str(inspection.classifier(tmp_path / "one"))), tmp_path)
    plain = resolve(ModelOptions(source=str(inspection.classifier(tmp_path / "two", ""))), tmp_path)
    wrong = picture(np.full((64, 64, 3), (255, 0, 0), np.uint8))
    async with loaded(judging) as (plane, _):
        first, second, *_ = (await plane.infer(MODEL, wrong)).predictions
    async with loaded(plain) as (plane, _):
        unjudged = (await plane.infer(MODEL, wrong)).predictions
    assert isinstance(first, Anomaly)
    assert (first.anomalous, second.label) == (True, "red")
    assert all(isinstance(one, Classification) for one in unjudged)


async def test_a_painting_is_made_when_it_is_asked_for(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(inspection.segmenter(tmp_path / "m"))), tmp_path)
    wrong = picture(inspection.spotted(color=(0, 255, 0)))
    async with loaded(spec) as (plane, _):
        plain, with_it = await plane.infer(MODEL, wrong), await plane.infer(MODEL, wrong, paint=True)
    assert plain.painting is None
    assert with_it.painting is not None
    assert [one.name for one in with_it.painting.classes] == ["background", "green"]
    assert len(with_it.painting.data) == 128 * 64 * 3
    assert [type(one) for one in with_it.predictions] == [Anomaly, Segmentation]


async def test_a_table_that_the_model_cannot_have_keeps_it_from_loading(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(inspection.classifier(tmp_path / "m", 'normal = ["fine"]'))), tmp_path)
    with pytest.raises(ModelRefusedError, match="which is no class"):
        async with loaded(spec):
            pass


async def test_one_model_may_take_larger_pictures_than_the_others_until_it_is_unloaded(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(inspection.inspector(tmp_path / "m"))), tmp_path)
    large = picture(inspection.dark(128, 64))
    async with (
        asyncio.TaskGroup() as tasks,
        InferencePlane(tasks, tmp_path / "quarantine", limits=FrameLimits(max_bytes=20_000)) as plane,
    ):
        await asyncio.gather(plane.load("one", spec, max_bytes=30_000), plane.load("other", spec))
        assert (await plane.infer("one", large)).width == 128
        with pytest.raises(FrameError, match="the limit is 20000"):
            await plane.infer("other", large)
        await plane.reload("one")
        assert (await plane.infer("one", large)).width == 128
        await plane.unload("one")
        await plane.load("one", spec)
        with pytest.raises(FrameError, match="the limit is 20000"):
            await plane.infer("one", large)
