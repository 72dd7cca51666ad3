"""The DLR backend on a real libdlr, with models that gcc compiled."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from agent.inference.runtime import decode
from agent.inference.runtime.backends.dlr import Dlr
from agent.inference.runtime.backends.dlr_library import installed
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError
from agent.inference.runtime.preprocess import InputSpec, Preprocessor
from tests.support import tvm

SUMS = """
OP(sum) {
  for (int64_t i = 0; i < SIDE(2, 0); i++) FLOATS(2)[i] = FLOATS(0)[i] + FLOATS(1)[i];
  return FLOATS(0)[0] < 0 ? -1 : 0;
}
OP(widen) {
  int8_t *from = args[0].tensor->data; int64_t *to = args[1].tensor->data;
  for (int64_t i = 0; i < SIDE(0, 0); i++) to[i] = 1000000007LL * from[i];
  return 0;
}
"""


@pytest.fixture
def staging(tmp_path, monkeypatch):
    """A temporary folder of the test's own, in which nothing may be left."""
    folder = tmp_path / "staging"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def model(tmp_path, staging):
    return tvm.colours(tmp_path / "model")


def load(folder, accelerator="auto", threads=1, **options):
    return Dlr(str(folder), threads, accelerator, options)


def refused(folder, accelerator="auto", **options):
    with pytest.raises(ModelError) as caught:
        load(folder, accelerator, **options)
    return caught.value


def check(network):
    picture = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (means,) = network.run([picture])
    np.testing.assert_allclose(means, picture.mean(axis=(2, 3)), rtol=1e-5)


# What a model is


def test_a_trained_classifier_answers_as_numpy_does(tmp_path):
    made = tvm.classifier(tmp_path)
    network = load(made.folder)
    assert network.inputs == [TensorInfo("data", (1, 3, 224, 224), "float32")]
    assert network.outputs == [TensorInfo("logits", (1, 4), "float32")]
    for seed in range(5):
        data = np.random.default_rng(seed).normal(size=made.shape).astype(np.float32)
        np.testing.assert_allclose(network.run([data])[0], tvm.answer(data), rtol=1e-4, atol=1e-5)


def test_the_classifier_knows_views_that_it_was_not_trained_on(tmp_path):
    network = load(tvm.classifier(tmp_path).folder)
    prepare = Preprocessor(InputSpec.parse({"mean": list(tvm.MEAN), "std": list(tvm.STD)}), network.inputs[0])
    random, right = np.random.default_rng(99), 0
    for label, name in enumerate(tvm.SAMPLES.values()):
        for part in tvm.crops(name, random, 25):
            array, _ = prepare(decode.Decoded(part, part.shape[1], part.shape[0]))
            right += int(network.run([array])[0].argmax() == label)
    assert right >= 95


def test_planar_pictures_are_told_from_the_inputs_shape(model):
    network = load(model)
    array, _ = Preprocessor(InputSpec.parse({"scale": 1}), network.inputs[0])(
        decode.Decoded(np.full((8, 8, 3), (10, 20, 200), np.uint8), 8, 8)
    )
    assert network.run([array])[0].tolist() == [[200, 20, 10]]


def test_several_inputs_and_outputs_of_other_types_keep_their_order(tmp_path, staging):
    graph = tvm.Graph()
    first, second, small = graph.input("b", [2]), graph.input("a", [2]), graph.input("c", [2, 1], "int8")
    weight = graph.weight("w", np.array([10, 20], np.float32))
    partial = graph.op("sum", [first, second], ([2], "float32"))
    heads = graph.op("widen", [small], ([2], "int64")) + graph.op("sum", [*partial, weight], ([2], "float32"))
    network = load(graph.save(tmp_path / "m", SUMS, heads, meta=tvm.metadata({}, {"wide": [2], "sum": [2]})))
    assert [(one.name, one.dtype) for one in network.inputs] == [("b", "float32"), ("a", "float32"), ("c", "int8")]
    assert [(one.name, one.shape, one.dtype) for one in network.outputs] == [
        ("wide", (2,), "int64"),
        ("sum", (2,), "float32"),
    ]
    given = [np.array([1, 2], np.float32), np.array([3, 4], np.float32), np.array([[-1], [5]], np.int8)]
    assert [one.tolist() for one in network.run(given)] == [[-1000000007, 5000000035], [14, 26]]


def test_inputs_behind_weights_have_their_own_shape_and_type(tmp_path, staging):
    """libdlr tells those of the first arguments in such a graph, weights or not."""
    graph = tvm.Graph()
    weight = graph.weight("w", np.zeros(5, np.float32))
    first, small = graph.input("a", [5]), graph.input("b", [2, 1], "int8")
    heads = graph.op("sum", [weight, first], ([5], "float32")) + graph.op("widen", [small], ([2], "int64"))
    network = load(graph.save(tmp_path / "m", SUMS, heads))
    assert network.inputs == [TensorInfo("a", (5,), "float32"), TensorInfo("b", (2, 1), "int8")]
    assert network.run([np.ones(5, np.float32), np.array([[1], [2]], np.int8)])[1].tolist() == [1000000007, 2000000014]


def test_outputs_belong_to_the_caller(model):
    network = load(model)
    first = network.run([np.ones((1, 3, 8, 8), np.float32)])[0]
    network.run([np.zeros((1, 3, 8, 8), np.float32)])
    assert first.tolist() == [[1, 1, 1]]


def test_arrays_of_any_memory_order_are_read_right(model):
    picture = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    (means,) = load(model).run([picture.transpose(0, 3, 1, 2)])
    np.testing.assert_allclose(means, picture.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [np.zeros((1, 3, 8, 8), np.float32)] * 2,
        [np.zeros((1, 8, 8, 3), np.float32)],
        [np.zeros((1, 3, 64), np.float32)],
        [np.zeros((1, 3, 8, 8), np.float64)],
        [np.zeros((1, 3, 8, 8), np.uint8)],
    ],
)
def test_arrays_that_libdlr_would_take_and_misread_are_refused(model, arrays):
    network = load(model)
    with pytest.raises(ModelError) as caught:
        network.run(arrays)
    assert caught.value.code == "inference-failed"
    check(network)


def test_an_operator_that_fails_is_told_in_one_line_and_the_next_run_answers(tmp_path, staging):
    graph = tvm.Graph()
    heads = graph.op("sum", [graph.input("a", [2]), graph.input("b", [2])], ([2], "float32"))
    network = load(graph.save(tmp_path / "m", SUMS, heads))
    fine = np.array([1, 2], np.float32)
    with pytest.raises(ModelError) as caught:
        network.run([-fine, fine])
    assert caught.value.code == "inference-failed"
    assert caught.value.message == "the model failed: Check failed: ret == 0 (-1 vs. 0)"
    assert network.run([fine, fine])[0].tolist() == [2, 4]


def test_as_many_threads_compute_as_were_asked_for_and_none_is_pinned(tmp_path, staging):
    source = """
    #include <sched.h>
    typedef struct { void *sync; int32_t tasks; } Group;
    typedef int (*Launch)(int (*)(int, Group *, void *), void *, int);
    Launch __TVMBackendParallelLaunch;  /* libdlr puts its own function here */
    static int part(int task, Group *group, void *into) {
      if (task == 0) ((float *)into)[0] = group->tasks;
      cpu_set_t may;
      sched_getaffinity(0, sizeof may, &may);
      ((float *)into)[1 + task] = CPU_COUNT(&may);
      return 0;
    }
    OP(threads) { return __TVMBackendParallelLaunch(part, FLOATS(1), 0); }
    """
    graph = tvm.Graph()
    folder = graph.save(tmp_path / "m", source, graph.op("threads", [graph.input("a", [1])], ([9], "float32")))
    told = load(folder, threads=2).run([np.zeros(1, np.float32)])[0]
    assert told[:3].tolist() == [2, len(os.sched_getaffinity(0)), len(os.sched_getaffinity(0))]


def test_a_decision_tree_takes_rows_of_features(tmp_path, staging):
    source = """
    #include <stddef.h>
    typedef union { int missing; float value; } Entry;
    size_t get_num_output_group(void) { return 1; }
    size_t get_num_feature(void) { return 2; }
    const char *get_pred_transform(void) { return "identity"; }
    float get_sigmoid_alpha(void) { return 1; }
    float get_global_bias(void) { return 0; }
    float predict(Entry *row, int margin) { return row[0].missing == -1 ? -5 : row[0].value > 3 ? 1 : 2; }
    """
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "tree.so").write_bytes(tvm.shared_object(source))
    (tmp_path / "m" / "version.json").write_text("{}")
    network = load(tmp_path / "m")
    (tensor,) = network.inputs
    assert tensor.dtype == "float32"
    assert tensor.shape == (-1, 2)
    rows = np.array([[1, 1], [4, 1], [np.nan, 1]], np.float32)
    assert network.run([rows])[0].tolist() == [[2], [1], [-5]]
    assert network.run([rows[:1]])[0].tolist() == [[2]]


def test_a_program_of_the_virtual_machine_is_told_by_its_metadata(tmp_path, staging):
    network = load(tvm.relay_program(tmp_path / "m"))
    assert network.inputs == [TensorInfo("data", (1, 3, 8, 8), "float32")]
    assert network.outputs == [TensorInfo("same", (1, 3, 8, 8), "float32")]
    for seed in range(2):
        picture = np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)
        assert (network.run([picture])[0] == picture).all()


# The folder


def test_a_folder_is_recognised_by_its_files(tmp_path, model):
    lone, data = tmp_path / "lone", tmp_path / "data"
    lone.mkdir()
    data.mkdir()
    (lone / "tree.so").touch()
    (data / "notes.json").touch()
    (data / "libdlr.so").touch()
    assert [Dlr.accepts(str(path)) for path in (model, lone, data, model / "compiled.so", tmp_path / "no")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_else_lies_in_the_folder_does_not_disturb(model):
    for name in ("version.json", "manifest.json", "labels.json", "manifest.toml", "model-shapes.json", "libdlr.so"):
        (model / name).write_text("{}")
    (model / "logs").mkdir()
    (model / "logs" / "more.params").touch()
    check(load(model))


@pytest.mark.parametrize("name", ["a:b", "with blanks", "ünï", "compiled.so"])
def test_any_path_will_do(tmp_path, staging, name):
    check(load(tvm.colours(tmp_path / name)))


def test_a_model_outlives_its_folder_and_what_is_written_into_its_files(model):
    network = load(model)
    with (model / "compiled.so").open("r+b") as file:
        file.write(b"\0" * 4096)
        file.truncate(4096)
    check(network)
    shutil.rmtree(model)
    check(network)


def test_a_new_model_at_the_old_place_is_another_one(tmp_path, model):
    old = load(model)
    shutil.rmtree(model)
    source = "OP(colours) { FLOATS(1)[0] = FLOATS(1)[1] = FLOATS(1)[2] = 42; return 0; }"
    graph = tvm.Graph()
    graph.save(model, source, graph.op("colours", [graph.input("data", (1, 3, 8, 8))], ((1, 3), "float32")))
    assert load(model).run([np.zeros((1, 3, 8, 8), np.float32)])[0].tolist() == [[42, 42, 42]]
    check(old)


def test_of_two_libraries_the_one_named_like_the_weights_is_taken(model):
    (model / "other.so").write_bytes(b"no library")
    check(load(model))
    (model / "compiled.params").rename(model / "weights.params")
    assert "compiled.so and other.so, of which one is wanted" in refused(model).message


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[]", "{}", '{"Requirements": 3}', '{"Requirements": {"TargetDeviceType": 3}}', '{"Model": []}',
     '{"Model": {"Outputs": [{"name": 3}]}}', '{"Model": {"Outputs": []}}'],
)  # fmt: skip
def test_metadata_that_tells_nothing_is_as_good_as_none(model, text):
    (model / "compiled.meta").write_text(text)
    network = load(model)
    assert network.outputs == [TensorInfo("output0", (1, 3), "float32")]
    check(network)


def test_a_runtime_in_the_folder_is_loaded_only_when_that_is_asked_for(model):
    (model / "libdlr.so").write_bytes(b"no library" * 99)
    check(load(model))
    assert refused(model, use_model_libdlr=True).message == "the model's libdlr.so cannot be loaded: invalid ELF header"
    shutil.copyfile(importlib.import_module("dlr.libpath").find_lib_path(), model / "libdlr.so")
    check(load(model, use_model_libdlr=True))
    (model / "libdlr.so").unlink()
    assert "there is none" in refused(model, use_model_libdlr=True).message


# Refusals


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path):
    data = path.read_bytes()
    path.write_bytes(data[:860] + bytes(byte ^ 0xFF for byte in data[860:1060]) + data[1060:])


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def promise(path):
    path.write_bytes(struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, 1 << 40))


BROKEN = [
    ("compiled.so", lambda path: path.write_bytes(b""), "file too short"),
    ("compiled.so", lambda path: path.write_bytes(b"no library" * 99), "invalid ELF header"),
    ("compiled.so", cut, "loading it crashes the runtime (SIGBUS)"),
    ("compiled.so", flip, "Inconsistency detected by ld.so"),
    ("compiled.so", Path.unlink, "there is no compiled library"),
    ("compiled.params", lambda path: path.write_bytes(b""), "Invalid TVM model"),
    ("compiled.params", lambda path: path.write_bytes(b"x" * 99), "Invalid parameters file format"),
    ("compiled.params", cut, "Check failed: curr_ptr_ + size <= buffer_size_"),
    ("compiled.params", promise, "bad_alloc"),
    ("compiled.params", Path.unlink, "no weights"),
    ("compiled_model.json", lambda path: path.write_text("no graph"), "holds no graph"),
    ("compiled_model.json", lambda path: edit(path, heads=[[7, 0, 0]]), "contradicts itself"),
    ("compiled_model.json", lambda path: edit(path, heads=[[1, 5, 0]]), "contradicts itself"),
    ("compiled_model.json", lambda path: edit(path, heads=[[-1, 0, 0]]), "contradicts itself"),
    ("compiled_model.json", lambda path: edit(path, node_row_ptr=[0, 1]), "contradicts itself"),
    ("compiled_model.json", lambda path: edit(path, attrs={}), "contradicts itself"),
    ("compiled_model.json", lambda path: path.write_text(path.read_text().replace('"colours"', '"x"')), "module: x"),
    ("compiled_model.json", Path.unlink, "hold a graph; one is wanted"),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), BROKEN)
def test_a_broken_model_is_refused_in_one_line_and_leaves_the_process_alive(model, capfd, name, spoil, reason):
    spoil(model / name)
    error = refused(model)
    assert error.code == "model-broken"
    assert reason in error.message
    assert str(model) in error.message
    assert "\n" not in error.message
    assert tempfile.gettempdir() not in error.message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), cut, Path.unlink])
def test_a_broken_program_is_refused(tmp_path, staging, spoil):
    folder = tvm.relay_program(tmp_path / "m")
    spoil(folder / "code.ro")
    assert refused(folder).code == "model-broken"


def test_a_library_for_another_processor_says_so(model):
    data = bytearray((model / "compiled.so").read_bytes())
    other = 62 if data[18] != 62 else 183
    data[18:20] = struct.pack("<H", other)
    (model / "compiled.so").write_bytes(bytes(data))
    error = refused(model)
    assert error.code == "model-unsupported"
    assert f"is compiled for {'x86_64' if other == 62 else 'aarch64'}, this is" in error.message


@pytest.mark.parametrize("wanted", ["auto", "gpu", "cpu", "npu"])
def test_a_model_for_the_gpu_is_refused_with_what_to_do(tmp_path, staging, wanted):
    folder = tvm.colours(tmp_path / "m", meta=tvm.metadata(device="gpu"))
    with pytest.raises(UnavailableError) as caught:
        load(folder, wanted)
    assert caught.value.code == "accelerator-unavailable"
    assert "'gpu'" in caught.value.message
    assert "cpu" in caught.value.hint


def test_a_model_for_the_cpu_runs_there_and_nowhere_else(tmp_path, staging):
    folder = tvm.colours(tmp_path / "m", meta=tvm.metadata(device="cpu"))
    assert load(folder, "auto").accelerator == load(folder, "cpu").accelerator == "cpu"
    assert refused(folder, "gpu").code == refused(folder, "warp-drive").code == "accelerator-unavailable"


def test_a_dynamic_graph_without_metadata_is_refused(model):
    (model / "compiled.params").rename(model / "code.ro")
    assert "a .ro needs one" in refused(model).message


def test_models_for_tensorrt_are_refused(model):
    (model / "m.tensorrt").touch()
    assert refused(model).code == "model-unsupported"


def test_an_option_that_is_unknown_or_of_another_type_is_refused(model):
    for options in ({"use_model_libdr": True}, {"use_model_libdlr": "yes"}):
        assert refused(model, **options).code == "options-wrong"


def test_a_file_is_no_model(model):
    assert refused(model / "compiled.so").code == "model-broken"


def test_loading_prints_nothing(model, capfd):
    check(load(model))
    assert capfd.readouterr() == ("", "")


def test_twenty_models_leave_nothing_behind(model):
    check(load(model))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        load(model)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_version_is_libdlrs():
    tvm.require()
    assert Dlr.version() == "1.6.0"


@pytest.fixture
def forgotten():
    """A process that has not looked for libdlr yet."""
    installed.cache_clear()
    Dlr._own = None
    yield
    installed.cache_clear()


def test_a_missing_package_is_unavailable_with_its_install_command(monkeypatch, forgotten):
    monkeypatch.setitem(sys.modules, "dlr.libpath", None)
    with pytest.raises(UnavailableError, match="dlr cannot be imported") as caught:
        Dlr.version()
    assert caught.value.code == "backend-unavailable"
    assert "pip install dlr==1.6.0" in caught.value.hint


def test_a_package_without_its_library_is_unavailable_with_the_way_out(monkeypatch, forgotten):
    """Wheels for other processors than x86-64 have none."""
    tvm.require()
    installed.cache_clear()
    monkeypatch.setattr(os.path, "isfile", lambda path: False)
    with pytest.raises(UnavailableError, match="Cannot find DLR Library") as caught:
        Dlr.version()
    assert "use_model_libdlr" in caught.value.hint
