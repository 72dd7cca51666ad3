"""Who is believed about a network's input: the manifest before the file before the family, fact by fact."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.inputspec import FAMILY, FILE, KEYS, MANIFEST, Fact, InputSpec
from agent.inference.runtime.preprocess import Preprocessor

PICTURE = TensorInfo("images", (1, 3, 8, 8), "float32")
OPEN = TensorInfo("images", (1, 3, -1, -1), "float32")
VALUES = {
    "color": st.sampled_from(["RGB", "BGR"]),
    "resize": st.sampled_from(["stretch", "letterbox"]),
    "place": st.sampled_from(["center", "top-left"]),
    "interpolation": st.sampled_from(["linear", "cubic"]),
    "upscale": st.booleans(),
    "multiple": st.integers(1, 64),
    "max_side": st.integers(1, 4000),
}
TABLES = st.fixed_dictionaries({}, optional=VALUES)


@given(TABLES, TABLES, TABLES)
def test_each_fact_is_the_first_ones_that_has_it(manifest, file, family) -> None:
    spec = InputSpec.parse(manifest, file, family)
    for key in VALUES:
        said = [
            (name, table[key]) for name, table in ((MANIFEST, manifest), (FILE, file), (FAMILY, family)) if key in table
        ]
        assert spec.sources.get(key) == (said[0][0] if said else None)
        assert getattr(spec, key) == (said[0][1] if said else getattr(InputSpec(), key))


def test_mean_and_standard_deviation_are_one_fact() -> None:
    spec = InputSpec.parse({"mean": 10}, {"mean": [1.0], "std": [2.0]}, {"mean": [3.0], "std": [4.0]})
    assert (spec.mean, spec.std) == ((10.0,), None)
    spec = InputSpec.parse({}, {}, {"mean": 3.0, "std": 4.0})
    assert (spec.mean, spec.std, spec.sources["std"]) == ((3.0,), (4.0,), FAMILY)
    assert InputSpec.parse({"scale": 0.5}, {"mean": [1.0], "std": [2.0]}).std == (2.0,)


def test_an_open_word_of_the_manifest_leaves_the_fact_to_the_others() -> None:
    spec = InputSpec.parse({"color": "auto", "width": 0}, {"size": (64, 32)}, {"color": "BGR"})
    assert (spec.color, spec.width, spec.height) == ("BGR", 64, 32)


@pytest.mark.parametrize(
    ("told", "file", "family", "mean"),
    [
        ({"color": "BGR", "mean": [1, 2, 3]}, {}, {}, (1, 2, 3)),
        ({"mean": [1, 2, 3]}, {"color": "BGR"}, {}, (1, 2, 3)),
        ({"color": "BGR"}, {"mean": [1, 2, 3], "std": [1, 1, 1]}, {}, (3, 2, 1)),
        ({"color": "RGB"}, {}, {"color": "BGR", "mean": [1, 2, 3], "std": 1}, (3, 2, 1)),
        ({}, {}, {"color": "BGR", "mean": [1, 2, 3], "std": 1}, (1, 2, 3)),
    ],
)
def test_numbers_for_each_channel_follow_the_colours_that_they_were_said_for(told, file, family, mean) -> None:
    assert InputSpec.parse(told, file, family).mean == mean


def test_what_is_wrong_in_a_file_says_nothing() -> None:
    spec = InputSpec.parse(
        {}, {"mean": [float("nan")], "std": [0.0], "color": "CMYK", "size": (0, -4), "labels": ["a"]}
    )
    assert spec == InputSpec()


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"crop": 0.0}, "input.crop"),
        ({"crop": 1.5}, "input.crop"),
        ({"crop": 0.9, "resize": "letterbox"}, "input.resize"),
        ({"place": "top"}, "top-left"),
        ({"upscale": 1}, "input.upscale"),
        ({"multiple": 0}, "input.multiple"),
        ({"max_side": 10**6}, "input.max_side"),
        ({"others": 3}, "input.others"),
        ({"others": {"a": ["heigth"]}}, "input.others.a"),
        ({"others": {"a": list(range(100))}}, "input.others.a"),
        ({"tile": 3}, "input.tile"),
        ({"tile": {"column": 3}}, "input.tile.columns"),
        ({"tile": {"columns": 0}}, "input.tile.columns"),
        ({"tile": {"columns": 3, "size": 100}}, "input.tile"),
        ({"tile": {"size": 2}}, "input.tile.size"),
        ({"tile": {"columns": 2, "overlap": 0.95}}, "input.tile.overlap"),
        ({"regions": [[0, 0]]}, "input.regions"),
        ({"regions": [[[0, 0], [0.5, 0.5], [1, 1.2]]]}, "input.regions"),
        ({"regions": [[[0, 0], [0.5, 0.5]]]}, "input.regions"),
        ({"regions": [[[0.2, 0], [0.2, 0.5], [0.2, 1]]]}, "input.regions"),
        ({"regions": [{"x": 0, "y": 0, "width": 0, "height": 1}]}, "input.regions"),
        ({"regions": [{"x": 0, "y": 0, "w": 1, "h": 1}]}, "input.regions"),
        ({"regions": [{"x": 0, "y": 0, "width": 1, "height": 1}] * 17}, "input.regions"),
    ],
)
def test_what_cannot_be_is_refused_by_name(told, named) -> None:
    with pytest.raises(ModelError) as refused:
        InputSpec.parse(told)
    assert refused.value.code == "options-wrong"
    assert named in f"{refused.value.message} {refused.value.hint}"


def test_a_crop_share_alone_says_that_the_picture_is_cropped() -> None:
    spec = InputSpec.parse({"crop": 0.875}, {}, {"resize": "stretch"})
    assert (spec.resize, spec.crop) == ("crop", 0.875)


def test_everything_that_settles_an_input_is_shown_with_its_source() -> None:
    spec = InputSpec.parse(
        {"color": "BGR"}, {"size": (64, 32)}, {"resize": "letterbox", "pad": [0], "mean": 0, "std": 1}
    )
    assert Preprocessor(spec, OPEN).facts == (
        Fact("width", 64, "file"),
        Fact("height", 32, "file"),
        Fact("layout", "NCHW", "shape"),
        Fact("color", "BGR", "manifest"),
        Fact("mean", 0.0, "family"),
        Fact("std", 1.0, "family"),
        Fact("resize", "letterbox", "family"),
        Fact("place", "center", "usual"),
        Fact("pad", 0.0, "family"),
        Fact("upscale", True, "usual"),
        Fact("interpolation", "linear", "usual"),
    )
    assert Preprocessor(InputSpec(), PICTURE).facts[:2] == (Fact("width", 8, "shape"), Fact("height", 8, "shape"))


def test_open_sides_take_the_manifests_size_before_the_files_before_the_familys() -> None:
    def width(told, file, family) -> int:
        return dict(fact[:2] for fact in Preprocessor(InputSpec.parse(told, file, family), OPEN).facts)["width"]

    assert width({"width": 40, "height": 40}, {"size": (64, 64)}, {"size": 640}) == 40
    assert width({}, {"size": (64, 64)}, {"size": 640}) == 64
    assert width({}, {}, {"size": 640}) == 640


def test_a_size_is_raised_to_the_stride_of_the_networks_grids() -> None:
    facts = dict(
        fact[:2] for fact in Preprocessor(InputSpec.parse({"width": 333, "height": 100}, {"stride": 32}), OPEN).facts
    )
    assert (facts["width"], facts["height"]) == (352, 128)


def test_a_files_size_and_a_familys_are_nothing_to_a_shape_that_is_settled() -> None:
    facts = Preprocessor(InputSpec.parse({}, {"size": (64, 64)}, {"size": 640}), PICTURE).facts
    assert facts[0] == Fact("width", 8, "shape")


@pytest.mark.parametrize("source", ["file", "family"])
def test_only_the_manifest_normalises_bytes(source) -> None:
    facts = {"mean": [127.5], "std": [127.5]}
    spec = InputSpec.parse({}, facts if source == "file" else {}, facts if source == "family" else {})
    floats, bytes_ = (
        dict(fact[:2] for fact in Preprocessor(spec, TensorInfo("x", (1, 8, 8, 3), dtype)).facts)
        for dtype in ("float32", "uint8")
    )
    assert (floats["mean"], floats["std"]) == (127.5, 127.5)
    assert (bytes_["mean"], bytes_["std"]) == (0.0, 1.0)


def test_the_page_tells_every_key() -> None:
    page = (Path(agent.__file__).parents[1] / "docs" / "customize.md").read_text()
    rows = page.split("| key of `[input]` |")[1].split("\n\n")[0]
    told = [key for row in rows.splitlines() for key in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert sorted(told) == sorted(KEYS)
