from __future__ import annotations

from pathlib import Path

import pytest

from agent.greengrass.recipes import reader
from agent.greengrass.recipes.lifecycle import StepName, parse, select
from agent.greengrass.recipes.variables import Context, Placeholder, Values, interpolate, placeholders

CONFIGURATION = {
    "name": "line 3",
    "on": True,
    "none": None,
    "n": 5,
    "f": 0.5,
    "list": [1, {"b": 1, "a": "ü"}],
    "map": {"z": 1, "a": {"y": 2, "b": []}},
    "a/b": "slash",
    "m~n": "tilde",
    "": "empty",
    "loop": "{configuration:/n}",
    "cross": "{dep.B:configuration:/x}",
}
CONTEXT = Context(
    component=Values.under("/gg", "com.A", "1.0.0", CONFIGURATION),
    dependencies={"dep.B": Values.under("/gg", "dep.B", "2.0.0", {"x": "bee", "root": {"p": "../b"}})},
    root="/gg",
    thing_name="camera-7",
)

REPLACED = [
    ("{configuration:/name}", "line 3"),
    ("{configuration:/on}", "true"),
    ("{configuration:/none}", "null"),
    ("{configuration:/n}", "5"),
    ("{configuration:/f}", "0.5"),
    ("{configuration:/list}", '[1,{"a":"ü","b":1}]'),
    ("{configuration:/list/1/a}", "ü"),
    ("{configuration:/map}", '{"a":{"b":[],"y":2},"z":1}'),
    ("{configuration:/a~1b}", "slash"),
    ("{configuration:/m~0n}", "tilde"),
    ("{configuration:/}", "empty"),
    ("{artifacts:path}", "/gg/packages/artifacts/com.A/1.0.0"),
    ("{artifacts:decompressedPath}", "/gg/packages/artifacts-unarchived/com.A/1.0.0"),
    ("{work:path}", "/gg/work/com.A"),
    ("{kernel:rootPath}", "/gg"),
    ("{iot:thingName}", "camera-7"),
    ("{dep.B:configuration:/x}", "bee"),
    ("{dep.B:configuration:/root/p}", "../b"),
    ("{dep.B:artifacts:path}", "/gg/packages/artifacts/dep.B/2.0.0"),
    ("{dep.B:artifacts:decompressedPath}", "/gg/packages/artifacts-unarchived/dep.B/2.0.0"),
    ("{dep.B:work:path}", "/gg/work/dep.B"),
    ("a {iot:thingName}{configuration:/n} $X %Y%", "a camera-75 $X %Y%"),
    ("${configuration:/n}", "$5"),
    ("{configuration:/loop}", "{configuration:/n}"),
    ("{configuration:/cross}", "bee"),
    ("{a:{configuration:/n}}", "{a:5}"),
    ("{{configuration:/n}}", "{5}"),
]
LEFT = [
    "{configuration:/missing}",
    "{configuration:/list/7}",
    "{configuration:/list/01}",
    "{configuration:name}",
    "{configuration:/name/x}",
    "{artifacts:root}",
    "{work:Path}",
    "{kernel:path}",
    "{stranger:configuration:/x}",
    "{dep.B:configuration:/missing}",
    "{dep.B:kernel:rootPath}",
    "{dep.B:iot:thingName}",
    "{DEP.B:work:path}",
]
PLAIN = ["${HOME:-/root}", "{a:b}", '{"a": 1}', "{}", "{configuration}", "awk '{print:x}'", "{dep.B:what:ever}"]


@pytest.mark.parametrize(("text", "expected"), REPLACED)
def test_a_variable_is_replaced_literally(text, expected):
    found = interpolate({"Run": text}, CONTEXT)
    assert found.lifecycle == {"Run": expected}
    assert found.unknown == ()


def test_the_whole_configuration_is_compact_json_with_sorted_keys():
    small = Context(Values({"b": 1, "a": None}))
    assert interpolate({"Run": "x '{configuration:}'"}, small).lifecycle == {"Run": """x '{"a":null,"b":1}'"""}


@pytest.mark.parametrize("text", LEFT)
def test_a_variable_without_a_value_stays_and_is_told(text):
    found = interpolate({"Run": f"a {text} b {text}"}, CONTEXT)
    assert found.lifecycle == {"Run": f"a {text} b {text}"}
    assert found.unknown == (text,)


@pytest.mark.parametrize("text", PLAIN)
def test_braces_that_are_no_variable_stay_without_a_word(text):
    found = interpolate({"Run": text}, CONTEXT)
    assert (found.lifecycle, found.unknown) == ({"Run": text}, ())


def test_values_are_walked_and_keys_are_not():
    lifecycle = {
        "{iot:thingName}": [{"k": "{iot:thingName}", "n": 5, "t": True, "z": None}, "{work:path}"],
        "Setenv": {"A": "{iot:thingName}"},
    }
    assert interpolate(lifecycle, CONTEXT).lifecycle == {
        "{iot:thingName}": [{"k": "camera-7", "n": 5, "t": True, "z": None}, "/gg/work/com.A"],
        "Setenv": {"A": "camera-7"},
    }
    assert lifecycle["Setenv"] == {"A": "{iot:thingName}"}


def test_placeholders_are_found_without_those_of_the_shell():
    assert list(placeholders("{work:path} ${A:-b} {x.Y:artifacts:path}")) == [
        Placeholder("{work:path}", "work", "path"),
        Placeholder("{x.Y:artifacts:path}", "artifacts", "path", "x.Y"),
    ]


def test_an_inference_component_finds_its_model_and_its_runtime():
    recipe, _ = reader.read(Path(__file__).parent / "data" / "dlr-image-classification.json")
    store, runtime = "variant.DLR.ImageClassification.ModelStore", "variant.DLR"
    context = Context(
        Values.under("/gg", recipe.name, recipe.version, recipe.configuration),
        {
            store: Values.under("/gg", store, "2.1.9", {}),
            runtime: Values.under("/gg", runtime, "1.6.12", {"MLRootPath": "../variant.DLR/greengrass_ml"}),
        },
    )
    found = interpolate(select(recipe, recipe.manifests[2]), context)
    assert found.unknown == ()
    lifecycle = parse(found.lifecycle)
    assert lifecycle.setenv["DLR_IC_MODEL_DIR"] == (
        f"/gg/packages/artifacts-unarchived/{store}/2.1.9/DLR-resnet50-x86_64-cpu-ImageClassification"
    )
    assert lifecycle.steps[StepName.RUN].script.startswith(
        "\n. ../variant.DLR/greengrass_ml/greengrass_ml_dlr_conda/bin/activate\n"
    )
    assert lifecycle.steps[StepName.RUN].privileged
