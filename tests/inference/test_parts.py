"""The files that a model is made of, its identity, and what happens where one of them is missing or lies elsewhere."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from agent.config.models import ModelOptions
from agent.errors import ModelRefusedError
from agent.inference import manifest
from agent.inference.alone import loaded
from agent.inference.manifest import for_user, resolve
from agent.inference.runtime import parts
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.session import Session
from agent.users import RunAs, look_up
from tests.support.models import onnx_external

SCORES = {"scores": np.array([[0.1, 0.7, 0.2]])}


def names(path: Path, config: str = "") -> list[str]:
    return [os.path.relpath(part, path.parent) for part in parts.of(str(path), config)]


def refused(path: Path, config: str = "") -> ModelError:
    with pytest.raises(ModelError) as caught:
        parts.of(str(path), config)
    assert caught.value.hint
    return caught.value


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_model_of_one_file_is_named_by_its_bytes(tmp_path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"abc")
    (tmp_path / "labels.txt").write_text("cat\n")
    assert parts.digest(str(tmp_path / "m.tflite")) == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_a_folder_is_named_by_all_its_files_but_those_that_are_hidden_or_pythons(tmp_path) -> None:
    for name in ("b.so", "a.json", "sub/c.params"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    whole = parts.digest(str(tmp_path))
    for name in (".git/x", "__pycache__/y", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert parts.digest(str(tmp_path)) == whole
    (tmp_path / "b.so").rename(tmp_path / "d.so")
    assert parts.digest(str(tmp_path)) != whole


@pytest.mark.parametrize("at", ["graph", "data"])
def test_external_data_is_a_part_of_what_a_model_is(tmp_path, at) -> None:
    path = onnx_external(tmp_path / "m.onnx", SCORES, "m.data")
    before = parts.digest(str(path))
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert parts.digest(str(tmp_path / "elsewhere" / "m.onnx")) == before
    changed = path if at == "graph" else tmp_path / "m.data"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    assert parts.digest(str(path)) != before


def test_the_core_and_the_worker_name_a_model_alike(tmp_path) -> None:
    path = onnx_external(tmp_path / "m.onnx", SCORES)
    spec = resolve(ModelOptions(source=str(path)), tmp_path)
    assert Session(spec.request(1)["model"]).describe()["digest"] == manifest.digest(spec)


# -- parts -------------------------------------------------------------------------------------------------------------


def test_external_data_may_be_many_files_in_folders_below(tmp_path) -> None:
    path = onnx_external(tmp_path / "m.onnx", SCORES, "weights/zero.bin", "weights/scores")
    assert names(path) == ["m.onnx", "weights/scores", "weights/zero.bin"]


def test_external_data_is_found_wherever_a_tensor_can_be(tmp_path) -> None:
    def tensor(name: str) -> TensorProto:
        made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        entry = made.external_data.add()
        entry.key, entry.value = "location", f"{name}.bin"
        (tmp_path / f"{name}.bin").write_bytes(bytes(4))
        return made

    out = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])]
    then = helper.make_graph([helper.make_node("Constant", [], ["out"], value=tensor("then"))], "then", [], out)
    other = helper.make_graph([], "other", [], out, [tensor("other")])
    node = helper.make_node("If", ["cond"], ["out"], then_branch=then, else_branch=other)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("cond", TensorProto.BOOL, [])], out)
    function = helper.make_function(
        "own", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor("function"))], []
    )
    model = helper.make_model(graph, functions=[function])
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor("sparse"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert names(tmp_path / "m.onnx") == ["m.onnx", "function.bin", "other.bin", "sparse.bin", "then.bin"]


def test_what_a_tensor_says_of_external_data_while_its_weights_are_in_the_file_is_no_part(tmp_path) -> None:
    model = onnx.load(str(onnx_external(tmp_path / "m.onnx", SCORES)), load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.DEFAULT
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert names(tmp_path / "m.onnx") == ["m.onnx"]


PAIRS = [
    ("caffe's", ("m.caffemodel", "m.prototxt"), "", ["m.caffemodel", "m.prototxt"]),
    ("caffe's under another name", ("m.caffemodel", "deploy.prototxt"), "", ["m.caffemodel", "deploy.prototxt"]),
    ("named", ("m.caffemodel", "a.prototxt", "b.prototxt"), "b.prototxt", ["m.caffemodel", "b.prototxt"]),
    ("darknet's", ("m.weights", "m.cfg"), "", ["m.weights", "m.cfg"]),
    ("weights of another kind", ("m.weights",), "", ["m.weights"]),
    ("tensorflow's", ("m.pb", "m.pbtxt", "label_map.pbtxt"), "", ["m.pb", "m.pbtxt"]),
    ("tensorflow's alone", ("m.pb", "label_map.pbtxt"), "", ["m.pb"]),
    ("tensorflow's named", ("m.pb", "graph.pbtxt"), "graph.pbtxt", ["m.pb", "graph.pbtxt"]),
    ("openvino's", ("m.xml", "m.bin"), "", ["m.xml", "m.bin"]),
    ("tflite's is alone", ("m.tflite", "m.bin", "m.prototxt"), "", ["m.tflite"]),
    ("an option of that name of another backend", ("m.tflite",), "fast", ["m.tflite"]),
]


@pytest.mark.parametrize(("files", "config", "told"), [case[1:] for case in PAIRS], ids=[case[0] for case in PAIRS])
def test_files_that_come_in_pairs_are_both_the_model(tmp_path, files, config, told) -> None:
    for name in files:
        (tmp_path / name).write_text('<?xml version="1.0"?>\n<net name="n" version="11">')
    assert names(tmp_path / files[0], config) == told


def test_an_xml_file_that_is_no_network_has_no_weights(tmp_path) -> None:
    (tmp_path / "m.xml").write_text("<annotation/>")
    assert names(tmp_path / "m.xml") == ["m.xml"]


# -- what is missing or elsewhere --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "config", "missing"),
    [
        (("m.caffemodel",), "", "m.prototxt"),
        (("m.caffemodel", "a.prototxt", "b.prototxt"), "", "m.prototxt"),
        (("m.caffemodel", "m.prototxt"), "deploy.prototxt", "deploy.prototxt"),
        (("m.weights", "m.cfg"), "other.cfg", "other.cfg"),
        (("m.xml", "other.bin"), "", "m.bin"),
    ],
)
def test_one_of_a_pair_without_the_other_is_refused_by_its_name(tmp_path, files, config, missing) -> None:
    for name in files:
        (tmp_path / name).write_text('<net name="n">')
    error = refused(tmp_path / files[0], config)
    assert error.code == "model-incomplete"
    assert f"goes with {missing}, which is not there" in error.message


@pytest.mark.parametrize("backend", ["onnx", "opencv"])
def test_a_model_whose_external_data_is_missing_is_refused_before_it_is_loaded(tmp_path, backend) -> None:
    path = onnx_external(tmp_path / "m.onnx", SCORES, "m.data")
    (tmp_path / "m.data").unlink()
    spec = resolve(ModelOptions(source=str(path), backend=backend), tmp_path)
    with pytest.raises(ModelError, match=r"keeps weights in 'm\.data', which is not there") as caught:
        Session(spec.request(1)["model"])
    assert caught.value.code == "model-incomplete"
    with pytest.raises(ModelRefusedError, match=r"m\.data") as core:
        manifest.parts(spec)
    assert core.value.code == "model-incomplete"


@pytest.mark.parametrize("location", ["../w", "/etc/passwd", "a/../../w", "link/w", "linked"])
def test_external_data_outside_of_the_models_folder_is_refused(tmp_path, location) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w").write_bytes(bytes(4096 * 2))
    path = onnx_external(folder / "m.onnx", SCORES, "here")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(model.SerializeToString())
    (folder / "link").symlink_to(tmp_path)
    (folder / "linked").symlink_to(tmp_path / "w")
    error = refused(path)
    assert error.code == "model-outside"
    assert repr(location) in error.message


def test_a_model_that_is_no_onnx_file_has_no_parts_and_its_backend_says_why(tmp_path) -> None:
    for content in (b"", b"x", b"\xff" * 99, onnx_external(tmp_path / "m.onnx", SCORES).read_bytes()[:40]):
        (tmp_path / "n.onnx").write_bytes(content)
        assert names(tmp_path / "n.onnx")[0] == "n.onnx"


def test_a_model_that_is_nested_without_end_is_refused(tmp_path) -> None:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("If", [], [], then_branch=inner)], "g", [], [])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(inner).SerializeToString())
    assert "nested too deeply" in refused(tmp_path / "m.onnx").message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose workers are other users")
@pytest.mark.parametrize("backend", ["onnx", "opencv"])
async def test_a_worker_that_runs_as_another_user_gets_to_external_data_below_a_closed_folder(
    tmp_path, backend
) -> None:
    (folder := tmp_path / "closed" / "model").mkdir(parents=True)
    path = onnx_external(folder / "m.onnx", SCORES, "weights/m.data")
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    tmp_path.chmod(0o755)
    spec = for_user(resolve(ModelOptions(source=str(path), backend=backend), tmp_path), look_up(RunAs.parse("nobody")))
    assert spec.user is not None
    async with loaded(spec) as (_, description):
        assert description.digest == manifest.digest(spec)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose workers are other users")
def test_a_model_whose_external_data_a_user_may_not_read_is_not_run_as_that_user(tmp_path) -> None:
    path = onnx_external(tmp_path / "m.onnx", SCORES, "m.data")
    path.chmod(0o644)
    spec, nobody = resolve(ModelOptions(source=str(path)), tmp_path), look_up(RunAs.parse("nobody"))
    for mode, user in ((0o644, nobody), (0o600, None)):
        (tmp_path / "m.data").chmod(mode)
        assert for_user(spec, nobody).user == user


@given(at=st.integers(0, 600), junk=st.binary(max_size=40), keep=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_damaged_onnx_file_has_parts_in_its_folder_or_is_refused(tmp_path_factory, at, junk, keep) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = onnx_external(folder / "m.onnx", SCORES, "m.data")
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + (data[at + len(junk) :] if keep else b""))
    try:
        found = parts.of(str(path))
    except ModelError as error:
        assert error.code in {"model-incomplete", "model-outside", "model-broken"}  # noqa: PT017 - either end is right
    else:
        assert {Path(part).name for part in found} <= {"m.onnx", "m.data"}
