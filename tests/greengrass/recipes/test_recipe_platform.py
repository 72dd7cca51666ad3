from __future__ import annotations

import pytest

from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.platform import attributes, choose, detect, matches, override
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.versions import Version

PI = {"os": "linux", "architecture": "arm", "architecture.detail": "armv7l", "gpu": "nvidia"}

MATCHES = [
    ({}, True),
    ({"os": "linux"}, True),
    ({"os": "linux", "architecture": "amd64"}, False),
    ({"os": None}, True),
    ({"os": "*"}, True),
    ({"runtime": "*"}, True),
    ({"runtime": None}, True),
    ({"runtime": "aws_nucleus_lite"}, False),
    ({"os": "all"}, True),
    ({"architecture": "any"}, True),
    ({"gpu": "all"}, False),
    ({"runtime": "any"}, False),
    ({"os": "/linux|darwin/"}, True),
    ({"os": "/lin/"}, False),
    ({"architecture.detail": "/armv[78]l/"}, True),
    ({"runtime": "/.*/"}, False),
    ({"os": "Linux"}, False),
    ({"OS": "linux"}, False),
    ({"gpu": "nvidia"}, True),
    ({"gpu": "-nvidia"}, False),
    ({"gpu": ""}, False),
    ({"gpu": "/"}, False),
    ({"gpu": "/(/"}, False),
]


@pytest.mark.parametrize(("template", "expected"), MATCHES)
def test_a_template_matches_as_the_table_says(template, expected):
    assert matches(template, PI) is expected


def test_a_value_that_begins_with_punctuation_never_matches_even_when_equal():
    assert not matches({"gpu": "?"}, {"gpu": "?"})


def recipe(*platforms):
    manifests = tuple(Manifest(name=str(number), platform=each) for number, each in enumerate(platforms))
    return Recipe("com.example.A", Version(1, 0, 0), manifests=manifests)


def test_the_first_manifest_that_matches_wins_not_the_most_specific():
    assert choose(recipe({"os": "windows"}, {"os": "linux"}, PI), PI).name == "1"
    assert choose(recipe({}, PI), PI).name == "0"


def test_no_manifest_for_this_device_is_told_with_what_there_is():
    with pytest.raises(
        NoManifestError, match="os=windows; os=linux, architecture=amd64; this is os=linux, architecture=arm"
    ) as caught:
        choose(recipe({"os": "windows"}, {"os": "linux", "architecture": "amd64"}), PI)
    assert (caught.value.code, caught.value.error_type) == ("LOCAL_RECIPE_NOT_FOUND", "DEVICE_ERROR")


SYSTEMS = [
    (("linux", "x86_64", 64, True), {"os": "linux", "architecture": "amd64"}),
    (("linux", "i686", 32, True), {"os": "linux", "architecture": "x86"}),
    (("linux", "x86_64", 32, True), {"os": "linux", "architecture": "x86"}),
    (("linux", "aarch64", 64, True), {"os": "linux", "architecture": "aarch64"}),
    (("linux", "aarch64", 32, True), {"os": "linux", "architecture": "arm"}),
    (("linux", "armv7l", 32, True), {"os": "linux", "architecture": "arm", "architecture.detail": "armv7l"}),
    (("linux", "armv5tel", 32, True), {"os": "linux", "architecture": "arm"}),
    (("linux", "riscv64", 64, True), {"os": "linux", "architecture": "unknown"}),
    (("darwin", "arm64", 64, False), {"os": "darwin", "architecture": "aarch64"}),
    (("win32", "AMD64", 64, False), {"os": "windows", "architecture": "amd64"}),
    (("freebsd14", "amd64", 64, False), {"os": "unknown", "architecture": "amd64"}),
]


@pytest.mark.parametrize(("system", "expected"), SYSTEMS)
def test_attributes_are_named_as_greengrass_names_them(system, expected):
    name, machine, bits, linux = system
    assert attributes(name, machine, bits=bits, linux=linux) == expected


def test_overrides_add_and_replace_and_only_texts_count():
    assert override({"os": "linux"}, {"os": "darwin", "gpu": "nvidia", "cores": 4, "x": None}) == {
        "os": "darwin",
        "gpu": "nvidia",
    }


def test_this_device_is_detected():
    found = detect({"gpu": "none"})
    assert found["gpu"] == "none"
    assert found["os"] in {"linux", "darwin", "windows"}
    assert found["architecture"] != "unknown"
    assert "runtime" not in found
