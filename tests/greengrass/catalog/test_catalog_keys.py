"""The AWS keys of an inference component, each in every spelling, and what they come to."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass import catalog
from agent.greengrass.catalog import keys, scalars
from agent.greengrass.catalog.families import FAMILIES
from agent.greengrass.catalog.keys import ComponentKeyError, Device

TFLITE_IC = "aws.greengrass.TensorFlowLiteImageClassification"
TFLITE_OD = "aws.greengrass.TensorFlowLiteObjectDetection"
DLR_IC = "aws.greengrass.DLRImageClassification"
DLR_OD = "aws.greengrass.DLRObjectDetection"
IMAGES, WORK = "/verge/images", "/verge/work/C"
DEVICE = Device("amd64", IMAGES, WORK)


def configured(component=TFLITE_IC, **changes):
    made = catalog.recipe(component, catalog.versions(component)[-1])
    return {**copy.deepcopy(dict(made.configuration)), **changes}


def told(component=TFLITE_IC, *, device=DEVICE, **changes):
    made = catalog.recipe(component, catalog.versions(component)[-1])
    return keys.stream(component, configured(component, **changes), made.dependencies, device)


def block(component=TFLITE_IC, **changes):
    return told(component, **changes).block


def refusal(component=TFLITE_IC, **changes) -> ComponentKeyError:
    with pytest.raises(ComponentKeyError) as caught:
        told(component, **changes)
    assert caught.value.code == "COMPONENT_CONFIGURATION_NOT_VALID"
    return caught.value


def may(*resources):
    policy = {"operations": ["aws.greengrass#PublishToIoTCore"], "resources": list(resources)}
    return {"aws.greengrass.ipc.mqttproxy": {"own:mqttproxy:1": policy}}


UNTOUCHED = [
    # component, model, picture, topic, format, options, archive
    (
        TFLITE_IC,
        "variant.TensorFlowLite.ImageClassification.ModelStore",
        "chelsea.jpg",
        "ml/tflite/image-classification",
        "aws",
        {"threshold": 0.3, "top_k": 5},
        "TensorFlowLite-Mobilenet",
    ),
    (
        TFLITE_OD,
        "variant.TensorFlowLite.ObjectDetection.ModelStore",
        "astronaut.jpg",
        "ml/tflite/object-detection",
        "aws",
        {"threshold": 0.3, "max_detections": 5},
        "TensorFlowLite-SSD",
    ),
    (
        DLR_IC,
        "variant.DLR.ImageClassification.ModelStore",
        "chelsea.jpg",
        "ml/dlr/image-classification",
        "aws-dlr",
        {"threshold": 0.3, "top_k": 5},
        "DLR-resnet50-x86_64-cpu-ImageClassification",
    ),
    (
        DLR_OD,
        "variant.DLR.ObjectDetection.ModelStore",
        "astronaut.jpg",
        "ml/dlr/object-detection",
        "aws-dlr",
        {"threshold": 0.3, "max_detections": 5},
        "DLR-yolo3-x86_64-cpu-ObjectDetection",
    ),
]


@pytest.mark.parametrize("case", UNTOUCHED, ids=[each[0] for each in UNTOUCHED])
def test_an_untouched_component_looks_at_a_sample_picture_once_an_hour(case) -> None:
    component, model, picture, topic, form, options, archive = case
    found = told(component)
    assert found.block == {
        "model": model,
        "input": {"directory": {"path": IMAGES, "name": picture}, "interval_s": 3600.0},
        "outputs": [{"topic": topic, "format": form, "qos": 1}],
        "options": options,
        "run": {"accelerator": "cpu"},
        "archive": archive,
    }
    assert found.findings == ()


@pytest.mark.parametrize("component", FAMILIES)
def test_the_defaults_of_the_code_are_those_of_the_recipe(component) -> None:
    bare = {"accessControl": configured(component)["accessControl"]}
    needs = catalog.recipe(component, catalog.versions(component)[-1]).dependencies
    found = dict(keys.stream(component, bare, needs, DEVICE).block)
    expected = dict(block(component))
    assert expected.pop("archive")
    assert found == expected


SAME = {
    "InferenceInterval": ["2", 2, 2.0, " 2 ", "2.0", "2e0", "+2", "2."],
    "UseCamera": ["true", True, "True", " TRUE "],
    "Accelerator": ["gpu", "GPU", " Gpu "],
    "ImageName": ["dog.PNG", " dog.PNG "],
    "ImageDirectory": ["/pictures", "/pictures/", " /pictures/. "],
    "PublishResultsOnTopic": ["ml/tflite/image-classification", " ml/tflite/image-classification "],
    "ModelResourceKey": [{"model": "Mine"}, '{"model": "Mine"}', "Mine", "Mine.zip", " Mine/ ", {"MODEL": "Mine"}],
}


@pytest.mark.parametrize("key", SAME)
def test_every_spelling_of_a_value_gives_the_same_block(key) -> None:
    blocks = [block(**{key: value}) for value in SAME[key]]
    assert all(each == blocks[0] for each in blocks)


@given(
    st.fixed_dictionaries(
        {key: st.tuples(st.sampled_from(values), st.sampled_from(values)) for key, values in SAME.items()}
    )
)
@settings(max_examples=100)
def test_spellings_may_be_mixed(pairs) -> None:
    first, second = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
    assert block(**first) == block(**second)


@settings(max_examples=100)
@given(st.floats(0.01, 1e6) | st.integers(1, 10**6), st.data())
def test_an_interval_is_the_same_number_however_it_is_written(seconds, data) -> None:
    spelled = data.draw(st.sampled_from([seconds, float(seconds), repr(seconds), f" {seconds} ", repr(float(seconds))]))
    assert block(InferenceInterval=spelled)["input"]["interval_s"] == float(seconds)


@pytest.mark.parametrize("seconds", ["15.5", 15.5, "0.25", ".5"])
def test_an_interval_may_be_a_fraction_of_a_second(seconds) -> None:
    assert block(InferenceInterval=seconds)["input"]["interval_s"] == float(seconds)


@pytest.mark.parametrize("key", ["inferenceinterval", "INFERENCEINTERVAL", "InferenceInterval"])
def test_keys_match_in_any_case(key) -> None:
    told_so = configured()
    del told_so["InferenceInterval"]
    found = keys.stream(TFLITE_IC, {**told_so, key: "7"}, ["store"], DEVICE)
    assert found.block["input"]["interval_s"] == 7.0
    assert found.findings == ()


BAD_VALUES = {
    # key → a part of what is accepted, values that are not
    "InferenceInterval": (
        "seconds",
        [
            0,
            "0",
            -1,
            "",
            "abc",
            "15 s",
            True,
            [],
            {},
            "nan",
            "inf",
            float("nan"),
            float("inf"),
            10**400,
            "1_000",
            "0x10",
        ],
    ),
    "UseCamera": ("true or false", ["yes", "", 1, 0, "1", [], {}]),
    "Accelerator": ("cpu or gpu", ["tpu", "", 1, True, []]),
    "ImageName": (".jpeg", ["cat.gif", "cat", ".jpg", "jpg", "a/.png"]),
    "ImageDirectory": ("a text", [7, ["/a"], {"a": 1}, "/a\0"]),
    "PublishResultsOnTopic": ("a topic", ["a/+", "#", 7, [], "a\0b"]),
    "ModelResourceKey": (
        "archive",
        [7, [], True, {"model": 7}, {"model": "/etc"}, {"model": "../x"}, "a/../../b"],
    ),
}
BAD = [(key, value, accepted) for key, (accepted, values) in BAD_VALUES.items() for value in values]


@pytest.mark.parametrize(("key", "value", "accepted"), BAD)
def test_a_bad_value_is_refused_with_the_key_the_value_and_what_is_accepted(key, value, accepted) -> None:
    error = refusal(**{key: value})
    assert TFLITE_IC in error.message
    assert key in error.message
    assert accepted in error.message


def test_what_is_shown_of_a_bad_value_is_short() -> None:
    assert len(refusal(InferenceInterval="x" * 10_000).message) < 300


@pytest.mark.parametrize("key", ["UseCamera", "InferenceInterval", "ModelResourceKey"])
def test_a_password_in_an_address_that_stands_where_it_should_not_is_not_told(key) -> None:
    address = "rtsp://admin:hunter2@door.local/live?token=a1b2c3"
    told = refusal(**{key: {"model": address + "/.."} if key == "ModelResourceKey" else address}).message
    assert "rtsp://…" in told
    assert "hunter2" not in told
    assert "a1b2c3" not in told


def test_nothing_is_like_absent() -> None:
    assert block(InferenceInterval=None, UseCamera=None, Accelerator=None, ImageName=None) == block()
    assert block(ImageDirectory="", ImageName=" ") == block()
    assert "archive" not in block(ModelResourceKey=None)


PICTURES = [
    # ImageDirectory, ImageName, the folder, the name
    (None, "cat.jpeg", IMAGES, "chelsea.jpg"),
    (None, "CAT.JPEG", IMAGES, "chelsea.jpg"),
    (None, "rocket.jpg", IMAGES, "rocket.jpg"),
    ("/in", "cat.jpeg", "/in", "cat.jpeg"),
    ("/in/", "a.JPG", "/in", "a.JPG"),
    ("/in", "a.npy", "/in", "a.npy"),
    ("/in", "deeper/a.png", "/in/deeper", "a.png"),
    ("/in", "/else/a.png", "/else", "a.png"),
    ("in", "a.png", f"{WORK}/in", "a.png"),
    ("../shared", "a.png", "/verge/work/shared", "a.png"),
    ("~/in", "a.png", "~/in", "a.png"),
    ("/in", "*.jpg", "/in", "*.jpg"),
    ("/in", "a[1].jpg", "/in", "a[[]1].jpg"),
]


@pytest.mark.parametrize(("folder", "name", "path", "picked"), PICTURES)
def test_the_picture_is_where_aws_would_look_for_it_or_a_sample_of_ours(folder, name, path, picked) -> None:
    found = block(ImageDirectory=folder, ImageName=name)["input"]["directory"]
    assert found == {"path": path, "name": picked}


def test_pictures_of_2_0_lie_in_the_root_s_images() -> None:
    assert block(DLR_IC, MLRootPath="/ml")["input"]["directory"] == {"path": "/ml/images", "name": "cat.jpeg"}
    assert block(DLR_IC, MLRootPath="/ml", ImageDirectory="/in")["input"]["directory"]["path"] == "/in"


def test_with_a_camera_the_picture_is_not_looked_at() -> None:
    found = block(UseCamera="true", ImageName="nothing", ImageDirectory=7, InferenceInterval=".5")
    assert found["input"] == {"camera": {"source": 0}, "interval_s": 0.5}


@pytest.mark.parametrize("topic", ["", " ", "\t"])
def test_without_a_topic_results_are_only_logged(topic) -> None:
    found = block(PublishResultsOnTopic=topic, accessControl=None)
    assert found["outputs"] == [{"log": True, "format": "aws"}]


def test_another_topic_must_be_among_the_resources() -> None:
    error = refusal(PublishResultsOnTopic="site/results")
    assert "'site/results'" in error.message
    assert "'ml/tflite/image-classification'" in error.message
    assert "accessControl" in error.hint
    found = block(PublishResultsOnTopic="site/results", accessControl=may("site/#"))
    assert found["outputs"][0]["topic"] == "site/results"
    assert refusal(accessControl=None).hint


def test_braces_in_a_topic_are_its_own_letters() -> None:
    found = block(PublishResultsOnTopic="a/{b}", accessControl=may("*"))
    assert found["outputs"][0]["topic"].format(thing="T") == "a/{b}"


ARCHIVES = [
    # architecture, ModelResourceKey, the archive
    ("amd64", {"x86_64": "A", "aarch64": "B", "armv7l": "C", "model": "D"}, "A"),
    ("aarch64", {"x86_64": "A", "aarch64": "B", "armv7l": "C", "model": "D"}, "B"),
    ("arm", {"x86_64": "A", "aarch64": "B", "armv7l": "C", "model": "D"}, "C"),
    ("arm", {"model": "D"}, "D"),
    ("riscv64", {"model": "D"}, "D"),
    ("amd64", {"amd64": "A"}, "A"),
    ("amd64", {"model": "zips/A.ZIP"}, "zips/A"),
    ("amd64", "A", "A"),
]


@pytest.mark.parametrize(("architecture", "named", "archive"), ARCHIVES)
def test_the_archive_is_that_of_the_devices_processor(architecture, named, archive) -> None:
    assert told(device=Device(architecture, IMAGES, WORK), ModelResourceKey=named).block["archive"] == archive


def test_an_archive_for_other_processors_is_worth_a_word() -> None:
    found = told(ModelResourceKey={"aarch64": "B"})
    assert "archive" not in found.block
    (finding,) = found.findings
    assert "x86_64" in finding.message


def test_an_unknown_key_is_kept_and_ignored_with_a_guess() -> None:
    found = told(ImageNam="dog.jpg", Verge={"Options": {}}, WindowsMLRootPath="C:")
    assert found.block == block()
    (finding,) = found.findings
    assert (finding.path, finding.hint) == ("ImageNam", "did you mean ImageName?")


@settings(max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.none() | st.integers() | st.text(max_size=4), max_size=3))
def test_unknown_keys_change_nothing(extra) -> None:
    known = {each.lower() for each in keys.KEYS} | {"verge"}
    extra = {key: value for key, value in extra.items() if key.lower() not in known}
    assert block(**extra) == block()


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just([]) | st.just({})


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([*keys.KEYS, "Verge"]), ANYTHING, max_size=4))
def test_whatever_the_keys_hold_the_answer_is_a_block_or_our_refusal(changes) -> None:
    with contextlib.suppress(ComponentKeyError):
        found = block(**changes)
        assert json.loads(json.dumps(found)) == found


MODELS = [
    # dependencies, known to be none, the Verge block, the model
    (["variant.DLR", "aws.greengrass.Nucleus", "store"], [], None, "store"),
    (["aws.greengrass.TokenExchangeService", "aws.greengrass.Cli", "mine", "my.runtime"], ["my.runtime"], None, "mine"),
    (["one", "other"], [], {"Model": "other"}, "other"),
    (["one", "other"], [], {"model": "one"}, "one"),
    ([], [], {"MODEL": "one"}, "one"),
]


@pytest.mark.parametrize(("dependencies", "others", "own", "model"), MODELS)
def test_the_model_is_the_dependency_that_is_nothing_else(dependencies, others, own, model) -> None:
    found = keys.stream(TFLITE_IC, configured(Verge=own), dependencies, DEVICE, others)
    assert found.block["model"] == model


@pytest.mark.parametrize(
    ("dependencies", "said"), [(["variant.DLR"], "none"), (["one", "other"], "one, other"), ([], "none")]
)
def test_where_the_model_is_not_clear_it_must_be_named(dependencies, said) -> None:
    with pytest.raises(ComponentKeyError, match=said) as caught:
        keys.stream(TFLITE_IC, configured(), dependencies, DEVICE)
    assert "Verge: {Model: …}" in caught.value.hint


def test_a_component_of_another_name_with_these_keys_is_read_as_they_say() -> None:
    told_so = {"InferenceInterval": 1, "ImageName": "a.jpg", "PublishResultsOnTopic": "t", "accessControl": may("t")}
    assert keys.says(told_so)
    assert not keys.says({"Verge": {}, "accessControl": {}})
    found = keys.stream("com.example.Mine", told_so, ["store"], DEVICE).block
    assert found == {
        "model": "store",
        "input": {"directory": {"path": IMAGES, "name": "a.jpg"}, "interval_s": 1.0},
        "outputs": [{"topic": "t", "format": "aws", "qos": 1}],
        "run": {"accelerator": "cpu"},
    }


def test_a_component_of_another_name_with_an_input_of_its_own_needs_no_picture() -> None:
    own = {"Input": {"Directory": {"Path": "/in"}}}
    found = keys.stream("com.example.Mine", {"InferenceInterval": "5", "Verge": own}, ["store"], DEVICE).block
    assert found == {"model": "store", "input": {"interval_s": 5.0}, "run": {"accelerator": "cpu"}}
    merged = keys.over(found, {"input": {"directory": {"path": "/in"}}})
    assert merged["input"] == {"directory": {"path": "/in"}, "interval_s": 5.0}
    with pytest.raises(ComponentKeyError, match="ImageName"):
        keys.stream("com.example.Mine", {"InferenceInterval": "5"}, ["store"], DEVICE)


FOLDER = {"path": IMAGES, "name": "chelsea.jpg"}
DOOR = {"camera": {"source": "rtsp://door/1"}, "interval_s": 1}
OVER = [
    # the owner's block, what is other than the keys say
    ({"options": {"threshold": 0.6}}, {"options": {"threshold": 0.6, "top_k": 5}}),
    ({"options": {"top_k": None, "activation": "softmax"}}, {"options": {"threshold": 0.3, "activation": "softmax"}}),
    ({"run": {"workers": 2}}, {"run": {"accelerator": "cpu", "workers": 2}}),
    ({"outputs": [{"format": "native"}]}, {"outputs": [{"format": "native"}]}),
    ({"input": {"topic": "cameras/+/frame"}}, {"input": {"topic": "cameras/+/frame"}}),
    ({"input": DOOR}, {"input": DOOR}),
    ({"input": {"interval_s": 0}}, {"input": {"directory": FOLDER, "interval_s": 0}}),
    (
        {"input": {"directory": {"pick": "next"}}},
        {"input": {"directory": FOLDER | {"pick": "next"}, "interval_s": 3600.0}},
    ),
    ({"model": "mine", "policy": "fifo"}, {"model": "mine", "policy": "fifo"}),
    ({}, {}),
]


@pytest.mark.parametrize(("own", "merged"), OVER)
def test_the_owners_own_block_goes_before_the_keys(own, merged) -> None:
    assert keys.over(block(), own) == {**block(), **merged}


@given(st.text(max_size=8))
@settings(max_examples=100)
def test_a_text_is_a_number_only_where_it_looks_like_one(text) -> None:
    found = scalars.number(text)
    if found is not None:
        assert found == float(text)
        assert text.isascii()
