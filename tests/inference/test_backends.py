"""Every backend runs real files, tells the truth about them, and refuses what it cannot run."""

import importlib
import io

import cv2
import numpy as np
import onnx
import pytest

from agent.inference.runtime import decode
from agent.inference.runtime.backends.litert import LiteRT
from agent.inference.runtime.backends.onnx import Onnx
from agent.inference.runtime.backends.opencv import OpenCV
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError
from agent.inference.runtime.preprocess import InputSpec, Preprocessor
from tests.support import models
from tests.support.models import Metadata

BACKENDS = [LiteRT, Onnx, OpenCV]
RED = (20, 10, 200)


def colours(backend, folder, **options):
    """The backend with its ``colours`` model."""
    write = models.tflite_colours if backend is LiteRT else models.onnx_colours
    return backend(str(write(folder / f"m{'.tflite' if backend is LiteRT else '.onnx'}", **options)), 1, "auto", {})


def constant(backend, folder, outputs):
    write = models.tflite_constant if backend is LiteRT else models.onnx_constant
    return backend(str(write(folder / f"m{'.tflite' if backend is LiteRT else '.onnx'}", outputs)), 1, "auto", {})


@pytest.fixture(autouse=True)
def _opencvs_threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_a_red_picture_arrives_red(backend, layout, color, encoding, tmp_path):
    network = colours(backend, tmp_path, size=(12, 16), layout=layout)
    red = np.full((24, 32, 3), RED, np.uint8)
    data = cv2.imencode(".png", red)[1].tobytes() if encoding == "png" else _npy(red[:, :, ::-1])
    picture = decode.decode(data, encoding, None)
    array, _ = Preprocessor(InputSpec.parse({"color": color, "scale": 1}), network.inputs[0])(picture)
    [means] = network.run([array])
    np.testing.assert_allclose(means, [RED[::-1] if color == "RGB" else RED], rtol=1e-5)


def _npy(array):
    told = io.BytesIO()
    np.save(told, array)
    return told.getvalue()


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_belong_to_the_caller(backend, tmp_path):
    network = colours(backend, tmp_path)
    shape = network.inputs[0].shape
    [first] = network.run([np.full(shape, 1, np.float32)])
    kept = first.copy()
    [second] = network.run([np.full(shape, 2, np.float32)])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, kept * 2)
    first[:] = 9
    np.testing.assert_allclose(network.run([np.full(shape, 1, np.float32)])[0], kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_are_told_by_name_shape_and_type_and_answered_in_that_order(backend, tmp_path):
    outputs = {"scores": np.arange(6.0).reshape(1, 2, 3), "boxes": np.arange(8.0).reshape(1, 2, 4)}
    network = constant(backend, tmp_path, outputs)
    shape = (1, 8, 8, 3) if backend is LiteRT else (1, 3, 8, 8)
    assert list(network.inputs) == [TensorInfo("images", shape, "float32")]
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in network.outputs] == [
        ("scores", (1, 2, 3), "float32"),
        ("boxes", (1, 2, 4), "float32"),
    ]
    for answer, expected in zip(network.run([np.ones(shape, np.float32)]), outputs.values(), strict=True):
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), [("uint8", 1 / 128, 128), ("int8", 1 / 255, -128)])
def test_a_quantised_tflite_file_tells_its_quantisation_and_takes_bytes(dtype, scale, zero_point, tmp_path):
    network = colours(LiteRT, tmp_path, dtype=dtype, scale=scale, zero_point=zero_point)
    [given], [taken] = network.inputs, network.outputs
    assert (given.dtype, given.zero_point, taken.zero_point) == (dtype, zero_point, zero_point)
    assert given.scale == pytest.approx(scale)
    array, _ = Preprocessor(InputSpec.parse({}), given)(decode.Decoded(np.full((8, 8, 3), RED, np.uint8), 8, 8))
    [means] = network.run([array])
    assert means.dtype == dtype
    assert (means.astype(int) - np.iinfo(dtype).min).tolist() == [list(RED[::-1])]


@pytest.mark.parametrize("backend", [Onnx, OpenCV])
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_onnx_files_of_other_types_are_fed_what_they_tell(backend, dtype, tmp_path):
    network = colours(backend, tmp_path, dtype=dtype)
    assert network.inputs[0].dtype == dtype
    [means] = network.run([np.full((1, 3, 8, 8), 7, dtype)])
    np.testing.assert_allclose(means, [[7, 7, 7]])


@pytest.mark.parametrize(
    ("backend", "options"), [(LiteRT, {"dynamic": True}), (Onnx, {"batch": None}), (OpenCV, {"batch": None})]
)
def test_an_open_batch_is_told_as_minus_one_and_fed_one(backend, options, tmp_path):
    network = colours(backend, tmp_path, **options)
    assert network.inputs[0].shape[0] == -1
    array, _ = Preprocessor(InputSpec.parse({"scale": 1}), network.inputs[0])(
        decode.Decoded(np.full((8, 8, 3), RED, np.uint8), 8, 8)
    )
    [means] = network.run([array])
    np.testing.assert_allclose(means, [RED[::-1]], rtol=1e-5)


def test_a_tflite_network_of_open_batch_takes_another_size_on_the_next_run(tmp_path):
    network = colours(LiteRT, tmp_path, dynamic=True)
    for batch in (1, 2, 1):
        assert network.run([np.ones((batch, 8, 8, 3), np.float32)])[0].shape == (batch, 3)


@pytest.mark.parametrize("backend", [Onnx, OpenCV])
def test_onnx_files_of_open_size_take_the_manifests(backend, tmp_path):
    network = colours(backend, tmp_path, size=(None, None))
    spec = InputSpec.parse({"width": 20, "height": 10, "scale": 1})
    array, _ = Preprocessor(spec, network.inputs[0])(decode.Decoded(np.full((8, 8, 3), RED, np.uint8), 8, 8))
    np.testing.assert_allclose(network.run([array])[0], [RED[::-1]], rtol=1e-5)


def test_labels_in_the_file_are_in_the_metadata(tmp_path):
    told = {"properties": {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[8, 8]"}}
    assert colours(LiteRT, tmp_path, metadata=Metadata(labels=("cat", "dog"))).metadata["labels"] == ["cat", "dog"]
    for backend in (Onnx, OpenCV):
        assert colours(backend, tmp_path, **told).metadata == {"labels": ["cat", "dog"], "size": (8, 8)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", [b"", b"x", b"xxxx" * 50, bytes(range(256)) * 8])
def test_a_file_that_is_no_model_is_broken(backend, content, tmp_path):
    path = tmp_path / ("m.tflite" if backend is LiteRT else "m.onnx")
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        backend(str(path), 1, "auto", {})
    assert caught.value.code == "model-broken"
    assert path.name in caught.value.message


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_model_that_is_cut_off_is_broken(backend, kept, tmp_path):
    path = tmp_path / ("m.tflite" if backend is LiteRT else "m.onnx")
    (models.tflite_constant if backend is LiteRT else models.onnx_constant)(path, {"out": np.zeros((1, 2000))})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError) as caught:
        backend(str(path), 1, "auto", {})
    assert caught.value.code == "model-broken"


@pytest.mark.parametrize("content", [b"", b"xxxx", b"\n\xff"])
def test_a_tensorflow_graph_that_is_none_is_broken_and_crashes_nothing(content, tmp_path):
    path = tmp_path / "m.pb"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        OpenCV(str(path), 1, "auto", {})
    assert caught.value.code == "model-broken"


def test_a_model_for_the_edge_tpu_asks_for_one(tmp_path):
    path = models.tflite_colours(tmp_path / "m.tflite", metadata=Metadata(name="edgetpu-custom-op"))
    with pytest.raises(UnavailableError) as caught:
        LiteRT(str(path), 1, "auto", {})
    assert "edgetpu" in caught.value.message


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("accelerator", ["gpu", "npu", "warp-drive"])
def test_an_accelerator_that_is_absent_is_refused_with_what_to_do_unless_auto_is_asked_for(
    backend, accelerator, tmp_path
):
    path = tmp_path / ("m.tflite" if backend is LiteRT else "m.onnx")
    (models.tflite_colours if backend is LiteRT else models.onnx_colours)(path)
    with pytest.raises(UnavailableError) as caught:
        backend(str(path), 1, accelerator, {})
    assert caught.value.code == "accelerator-unavailable"
    assert "cpu" in caught.value.hint
    assert backend(str(path), 1, "auto", {}).accelerator == "cpu"


def test_a_delegate_that_cannot_be_loaded_is_named(tmp_path):
    path = str(models.tflite_colours(tmp_path / "m.tflite"))
    with pytest.raises(UnavailableError, match="libnowhere"):
        LiteRT(path, 1, "gpu", {"delegate": "libnowhere.so", "delegate_options": {"precision": 1}})


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_unknown_backend_option_is_refused(backend, tmp_path):
    path = tmp_path / ("m.tflite" if backend is LiteRT else "m.onnx")
    (models.tflite_colours if backend is LiteRT else models.onnx_colours)(path)
    with pytest.raises(ModelError, match=r"backend_options\.delegat"):
        backend(str(path), 1, "auto", {"delegat": "x"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_of_another_shape_are_refused_and_the_next_run_answers(backend, tmp_path):
    network = colours(backend, tmp_path)
    with pytest.raises(ModelError) as caught:
        network.run([np.ones((1, 5), np.float32)])
    assert caught.value.code == "inference-failed"
    assert network.run([np.ones(network.inputs[0].shape, np.float32)])[0].tolist() == [[1, 1, 1]]


def test_each_backend_takes_its_own_files(tmp_path):
    tflite = models.tflite_colours(tmp_path / "without-suffix")
    onnx = models.onnx_colours(tmp_path / "m.onnx")
    assert [backend.accepts(str(tflite)) for backend in BACKENDS] == [True, False, False]
    assert [backend.accepts(str(onnx)) for backend in BACKENDS] == [False, True, True]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["model", "model.tflite", "model.onnx", "model.pb"])
def test_a_folder_is_no_file_of_theirs(backend, name, tmp_path):
    (tmp_path / name).mkdir()
    assert backend.accepts(str(tmp_path / name)) is False


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_version_is_a_number(backend):
    assert backend.version()[0].isdigit()


@pytest.mark.parametrize(("backend", "package"), [(LiteRT, "ai_edge_litert"), (Onnx, "onnxruntime")])
def test_a_runtime_that_is_not_installed_is_unavailable_with_its_install_command(backend, package, monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name.partition(".")[0] in {package, "tflite_runtime", "tensorflow"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UnavailableError) as caught:
        backend.version()
    assert caught.value.code == "backend-unavailable"
    assert "pip install" in caught.value.hint


def test_a_file_for_a_newer_onnx_or_with_operators_of_somebody_s_own_is_whole_and_told_as_that(tmp_path):
    made = onnx.load(str(models.onnx_constant(tmp_path / "m.onnx", {"scores": np.zeros((1, 2))})))
    for change, hint in ((_newer_opset, "older opset"), (_newer_file, "older opset"), (_own_operator, "own operators")):
        changed = onnx.ModelProto()
        changed.CopyFrom(made)
        change(changed)
        onnx.save(changed, str(tmp_path / "m.onnx"))
        with pytest.raises(ModelError) as refused:
            Onnx(str(tmp_path / "m.onnx"), 1, "auto", {})
        assert refused.value.code == "model-unsupported"
        assert hint in refused.value.hint
        assert "\n" not in refused.value.message


def _newer_opset(model):
    model.opset_import[0].version = 99


def _newer_file(model):
    model.ir_version = 99


def _own_operator(model):
    model.graph.node[0].op_type = "Marvel"
