"""What model files tell beyond their tensors, read from real ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.inference.runtime import filemeta, onnxfile
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError
from tests.support import models
from tests.support.models import Metadata

TOLD = Metadata(labels=("cat", "", "dog"), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), name="pets")


def test_a_tflite_file_tells_its_labels_normalisation_and_colours(tmp_path):
    told = filemeta.tflite(str(models.tflite_colours(tmp_path / "m.tflite", metadata=TOLD)))
    assert told == {
        "name": "pets",
        "labels": ["cat", "", "dog"],
        "mean": [1.0, 2.0, 3.0],
        "std": [4.0, 5.0, 6.0],
        "color": "RGB",
    }


def test_a_label_file_inside_a_tflite_file_may_have_any_form(tmp_path):
    path = models.tflite_colours(tmp_path / "m.tflite")
    path.write_bytes(path.read_bytes() + models.appended({"labelmap.txt": "1: dog\n0: cat\n"}))
    assert filemeta.tflite(str(path))["labels"] == ["cat", "dog"]


def test_a_label_file_inside_a_tflite_file_that_cannot_be_read_is_told_as_a_problem(tmp_path):
    path = models.tflite_colours(tmp_path / "m.tflite")
    path.write_bytes(path.read_bytes() + models.appended({"labels.txt": '["cat"'}))
    assert filemeta.tflite(str(path))["problem"].startswith("labels.txt: ")


def test_a_tflite_file_without_metadata_tells_nothing(tmp_path):
    assert filemeta.tflite(str(models.tflite_colours(tmp_path / "m.tflite"))) == {}


def test_a_deviation_of_zero_is_no_normalisation(tmp_path):
    told = filemeta.tflite(
        str(models.tflite_colours(tmp_path / "m.tflite", metadata=Metadata(mean=(1.0,), std=(0.0,))))
    )
    assert "mean" not in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.json", '{"names": {"0": "cat", "1": "dog"}, "imgsz": [480, 640], "stride": 32, "task": "detect"}'),
        ("temp_meta.txt", "{'names': {0: 'cat', 1: 'dog'}, 'imgsz': [480, 640], 'stride': 32, 'task': 'detect'}"),
    ],
)
def test_what_ultralytics_appends_to_a_tflite_file_is_read(tmp_path, name, text):
    path = models.tflite_colours(tmp_path / "m.tflite")
    path.write_bytes(path.read_bytes() + models.appended({name: text}))
    assert filemeta.tflite(str(path)) == {"labels": ["cat", "dog"], "size": (640, 480), "stride": 32, "task": "detect"}


def test_a_broken_metadata_table_is_told_as_a_problem_and_stops_nothing(tmp_path):
    path = models.tflite_colours(tmp_path / "m.tflite", metadata=TOLD)
    data = path.read_bytes()
    at = data.index(b"M001") - 4
    path.write_bytes(data[:at] + b"\xff" * 64 + data[at + 64 :])
    assert "metadata table" in filemeta.tflite(str(path))["problem"]


@given(at=st.integers(0, 4000), junk=st.binary(min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_damaged_tflite_file_gives_metadata_or_a_problem(tmp_path_factory, at, junk):
    path = tmp_path_factory.mktemp("damaged") / "m.tflite"
    data = models.tflite_colours(path, metadata=TOLD).read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    assert isinstance(filemeta.tflite(str(path)), dict)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"names": "{0: 'cat', 2: 'dog'}"}, {"labels": ["cat", "", "dog"]}),
        ({"names": "['cat', 'dog']"}, {"labels": ["cat", "dog"]}),
        ({"imgsz": "[320, 640]", "stride": "32"}, {"size": (640, 320), "stride": 32}),
        ({"task": "detect", "author": "A", "license": "L"}, {"task": "detect", "author": "A", "license": "L"}),
        ({"names": "__import__('os').abort()"}, {}),
        ({"names": "{0: 'cat', 999999999: 'dog'}"}, {}),
        ({"names": "[" * 5000}, {}),
        ({"names": "", "imgsz": "640", "stride": "a"}, {}),
        ({"labels": '["cat", "dog"]'}, {"labels": ["cat", "dog"]}),
        ({"classes": "cat,dog"}, {"labels": ["cat", "dog"]}),
        ({"class_names": "cat\ndog\n"}, {"labels": ["cat", "dog"]}),
        ({"id2label": '{"1": "dog", "0": "cat"}'}, {"labels": ["cat", "dog"]}),
        ({"character": "　\n!\n \n字\n"}, {"labels": ["　", "!", " ", "字"]}),
        ({"character": "a\nb", "names": "['cat', 'dog']"}, {"labels": ["cat", "dog"]}),
        ({"classes": "80", "labels": "labels.txt", "names": "{0: 'cat'}"}, {"labels": ["cat"]}),
        ({"classes": "80"}, {}),
        ({"labels": "labels.txt"}, {}),
        ({"labels": "0 cat\n0 dog"}, {}),
    ],
)
def test_properties_are_parsed_as_literals_and_never_evaluated(entries, told):
    assert filemeta.properties(entries) == told


def test_an_onnx_file_tells_its_inputs_outputs_and_properties_without_its_weights(tmp_path):
    outputs = {"boxes": np.zeros((1, 84, 20)), "scores": np.zeros((1, 3))}
    path = models.onnx_constant(tmp_path / "m.onnx", outputs, (32, 64), {"names": "['a']"})
    told = onnxfile.read(str(path))
    assert told.inputs == (TensorInfo("images", (1, 3, 32, 64), "float32"),)
    assert told.outputs == (TensorInfo("boxes", (1, 84, 20), "float32"), TensorInfo("scores", (1, 3), "float32"))
    assert told.properties == {"names": "['a']"}


def test_open_dimensions_of_an_onnx_file_are_minus_one(tmp_path):
    path = models.onnx_colours(tmp_path / "m.onnx", (None, None), batch=None, dtype="float16")
    assert onnxfile.read(str(path)).inputs == (TensorInfo("images", (-1, 3, -1, -1), "float16"),)


@given(cut=st.integers(0, 400), junk=st.binary(max_size=40), keep=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_damaged_onnx_file_is_read_or_refused_as_broken(tmp_path_factory, cut, junk, keep):
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    data = models.onnx_colours(path, properties={"names": "['a']"}).read_bytes()
    path.write_bytes(data[:cut] + junk + (data[cut + len(junk) :] if keep else b""))
    try:
        assert onnxfile.read(str(path)).outputs
    except ModelError as error:
        assert error.code == "model-broken"  # noqa: PT017 - either outcome is right


def test_a_literal_that_is_far_longer_than_a_size_is_not_parsed():
    assert filemeta.properties({"imgsz": "[320, 640]" + " " * (1 << 18)}) == {}
