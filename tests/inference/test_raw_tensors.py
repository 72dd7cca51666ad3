"""Raw tensors through the door: every backend gives what its network gives, and refuses what it does not take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.errors import FrameError, ModelRefusedError, WorkerLostError
from agent.frames.frame import Picture
from agent.inference import manifest
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.plane import InferencePlane
from agent.inference.runtime import arrays, messages
from agent.inference.runtime.errors import ModelError
from agent.inference.tensors import DTYPES, RawTensor, TensorInput
from agent.inference.values import PoolStatus, TensorMetadata
from tests.support import tvm, unruly
from tests.support.models import onnx_colours, onnx_constant, onnx_identity, onnx_pair, tflite_colours
from tests.support.plugins.unruly import CUES


@asynccontextmanager
async def plane_in(folder: Path, **options) -> AsyncIterator[InferencePlane]:
    async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, folder / "quarantine", **options) as plane:
        yield plane


def raw(name: str, array: np.ndarray) -> RawTensor:
    return RawTensor(name, array.dtype.name, array.shape, array.tobytes())


def array_of(tensor: RawTensor) -> np.ndarray:
    return np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape)


def colours(backend: str, folder: Path) -> Path:
    """A network that answers with the mean of each channel of 1 × 3 × 8 × 8 numbers."""
    if backend == "litert":
        return tflite_colours(folder / "model.tflite", layout="NCHW")
    return onnx_colours(folder / "model.onnx")


@pytest.mark.parametrize("backend", ["litert", "onnx", "opencv"])
async def test_a_network_is_given_its_tensors_and_gives_its_own(tmp_path: Path, backend: str) -> None:
    given = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load(
            "m", resolve(ModelOptions(source=str(colours(backend, tmp_path)), backend=backend), tmp_path)
        )
        answer = await plane.infer_tensors("m", [raw(metadata.inputs[0].name, given)])
    (output,) = answer.outputs
    assert (output.name, output.dtype, output.shape) == (metadata.outputs[0].name, "float32", (1, 3))
    assert array_of(output) == pytest.approx(given.mean(axis=(2, 3)))
    assert answer.timing_ms.keys() == {"infer"}


async def test_a_compiled_model_is_given_its_tensors_too(tmp_path: Path) -> None:
    given = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load(
            "m", resolve(ModelOptions(source=str(tvm.colours(tmp_path / "m")), task="tensors"), tmp_path)
        )
        (tensor,) = metadata.inputs
        shaped = np.ascontiguousarray(np.resize(given, tensor.shape).astype(tensor.dtype))
        answer = await plane.infer_tensors("m", [raw(tensor.name, shaped)])
    assert [output.dtype for output in answer.outputs] == [output.dtype for output in metadata.outputs]


async def test_the_shipped_classifier_sees_the_cat_in_raw_tensors(tmp_path: Path) -> None:
    pixels = cv2.cvtColor(cv2.imread(str(SAMPLES.parent / "images" / "chelsea.jpg")), cv2.COLOR_BGR2RGB)
    given = (cv2.resize(pixels, (224, 224)).astype(np.float32)[None] - 127) / 128
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", resolve(ModelOptions(source="classifier"), tmp_path))
        answer = await plane.infer_tensors("m", [raw(metadata.inputs[0].name, given)])
    (scores,) = answer.outputs
    assert array_of(scores).argmax() == 285


async def test_the_shipped_detector_gives_boxes_and_classes_as_its_network_does(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", resolve(ModelOptions(source="detector"), tmp_path))
        answer = await plane.infer_tensors("m", [raw(metadata.inputs[0].name, np.zeros((1, 300, 300, 3), np.float32))])
    assert [(output.name, output.shape) for output in answer.outputs] == [
        ("raw_outputs/box_encodings", (1, 1917, 4)),
        ("raw_outputs/class_predictions", (1, 1917, 24)),
    ]


async def test_only_the_outputs_that_are_named_come_back_in_the_order_of_the_names(tmp_path: Path) -> None:
    model = onnx_constant(tmp_path / "m.onnx", {"a": np.ones((1, 2)), "b": np.full((3,), 2.0), "c": np.zeros((1,))})
    given = [raw("images", np.zeros((1, 3, 8, 8), np.float32))]
    async with plane_in(tmp_path) as plane:
        await plane.load("m", resolve(ModelOptions(source=str(model), task="tensors"), tmp_path))
        everything = await plane.infer_tensors("m", given)
        some = await plane.infer_tensors("m", given, outputs=["c", "b"])
        with pytest.raises(ModelRefusedError, match="the model has no output 'd'") as refused:
            await plane.infer_tensors("m", given, outputs=["d"])
    assert [output.name for output in everything.outputs] == ["a", "b", "c"]
    assert [(output.name, array_of(output).tolist()) for output in some.outputs] == [
        ("c", [0.0]),
        ("b", [2.0, 2.0, 2.0]),
    ]
    assert (refused.value.code, refused.value.hint) == ("tensor-wrong", "its outputs: a, b, c")


@pytest.mark.parametrize(
    ("tensors", "complaint", "hint"),
    [
        ([], "the input 'images' is missing", "the model takes images float32 [1, 3, 8, 8]"),
        (
            [raw("image", np.zeros((1, 3, 8, 8), np.float32))],
            "the model has no input 'image'",
            "did you mean 'images'? the model takes images float32 [1, 3, 8, 8]",
        ),
        (
            [raw("images", np.zeros((1, 3, 8, 8), np.uint8))],
            "the input 'images' is uint8 [1, 3, 8, 8]",
            "the model takes images float32 [1, 3, 8, 8]",
        ),
        (
            [raw("images", np.zeros((1, 8, 8, 3), np.float32))],
            "the input 'images' is float32 [1, 8, 8, 3]",
            "the model takes images float32 [1, 3, 8, 8]",
        ),
    ],
)
async def test_what_the_network_does_not_take_is_refused_with_what_it_takes(
    tmp_path: Path, tensors, complaint: str, hint: str
) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", resolve(ModelOptions(source=str(onnx_colours(tmp_path / "m.onnx"))), tmp_path))
        with pytest.raises(ModelRefusedError) as refused:
            await plane.infer_tensors("m", tensors)
        assert plane.status("m").restarts == 0
    assert (refused.value.code, refused.value.message, refused.value.hint) == ("tensor-wrong", complaint, hint)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (RawTensor("x", "float32", (2, 2), bytes(15)), "the input 'x' has 15 bytes"),
        (RawTensor("x", "str", (1,), b"a"), "the input 'x' is of 'str'"),
        (RawTensor("x", "uint8", (-1,), b"a"), "the input 'x' has the shape [-1]"),
        (RawTensor("x", "uint8", (0, 1), b""), "the input 'x' has the shape [0, 1]"),
        (RawTensor("first", "uint8", (1,), b"a"), "the input 'first' is given twice"),
    ],
)
def test_bytes_that_are_not_what_their_shape_says_never_reach_a_worker(tensor: RawTensor, complaint: str) -> None:
    first = RawTensor("first", "uint8", (1,), b"a")
    with pytest.raises(ModelRefusedError, match=complaint.replace("[", r"\[")) as refused:
        TensorInput.of([first, tensor], (), 1 << 20)
    assert (refused.value.code, refused.value.path) == ("tensor-wrong", "inputs[1]")


async def test_an_input_that_the_frame_buffer_cannot_hold_is_refused_and_the_worker_lives(tmp_path: Path) -> None:
    limits = FrameLimits(max_bytes=4096)
    async with plane_in(tmp_path, limits=limits) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(ModelRefusedError, match="the limit is 4096") as tensors:
            await plane.infer_tensors("m", [raw("image", np.zeros((1, 40, 40, 3), np.uint8))])
        with pytest.raises(FrameError, match="the limit is 4096") as picture:
            await plane.infer("m", Picture(bytes(4097), "jpeg", 8, 8))
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
        assert plane.status("m").restarts == 0
    assert tensors.value.code == picture.value.code == "too-many-bytes"


async def test_tensors_that_take_two_workers_down_are_kept_as_numpy_reads_them(tmp_path: Path) -> None:
    blue, green, red = CUES["crash"]
    crash = np.full((1, 8, 8, 3), (red, green, blue), np.uint8)
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(WorkerLostError, match="two workers were lost over the tensors") as lost:
            await plane.infer_tensors("m", [raw("image", crash)], label="edge")
        answer = await plane.infer("m", unruly.picture("answer"))
        assert answer.predictions
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert lost.value.code == "worker-crashed"
    with np.load(kept) as archive:
        assert (archive["image"] == crash).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_crosses_the_frame_buffer_unchanged(dtype: str) -> None:
    first, second = np.arange(5).astype(dtype), np.arange(6).reshape(2, 3).astype(dtype)
    parts, places = TensorInput((raw("a", first), raw("b", second)), ()).parts()
    data = b"".join(parts)
    crossed = arrays.read(places, memoryview(data))
    assert all(place["offset"] % 64 == 0 for place in places)
    assert [(name, array.dtype.name, array.tolist()) for name, array in crossed.items()] == [
        ("a", dtype, first.tolist()),
        ("b", dtype, second.tolist()),
    ]


def test_outputs_that_are_no_numbers_or_more_than_a_message_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="the output 'words' is object") as odd:
        arrays.Outputs([("words", np.array(["a"], object))], {}).message(1)
    monkeypatch.setattr(messages, "MAX_BODY", 7)
    with pytest.raises(ModelError, match="the outputs are 8 bytes, the limit is 7") as large:
        arrays.Outputs([("a", np.zeros(1)), ("b", np.zeros(0))], {}).message(1)
    assert (odd.value.code, large.value.code) == ("outputs-unsupported", "outputs-too-large")


async def test_the_door_says_what_is_loaded_and_whether_it_can_answer(tmp_path: Path) -> None:
    ready: list[tuple[bool, int]] = []

    def changed(name: str, status: PoolStatus) -> None:
        if name in plane.models:
            ready.append((plane.ready(name), status.workers))
        elif not ready:
            assert not plane.ready(name)  # it is being loaded

    async with plane_in(tmp_path, changed=changed) as plane:
        for question in (plane.ready, plane.metadata, plane.status):
            with pytest.raises(ModelRefusedError, match="no model 'm' is loaded"):
                question("m")
        metadata = await plane.load("m", unruly.spec(tmp_path))
        assert plane.ready("m")
        assert plane.metadata("m") == metadata
        assert metadata.inputs == (TensorMetadata("image", (1, 8, 8, 3), "uint8"),)
        with pytest.raises(WorkerLostError):
            await plane.infer("m", unruly.picture("crash"))
    assert {answer for answer, _ in ready} == {True, False}
    assert all(answer == (workers > 0) for answer, workers in ready)


async def test_a_name_is_taken_from_the_moment_its_model_begins_to_load(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        spec = unruly.spec(tmp_path)
        outcomes = await asyncio.gather(plane.load("m", spec), plane.load("m", spec), return_exceptions=True)
        assert plane.models == ("m",)
        assert plane.status("m").workers == 1
        await plane.unload("m")
        await plane.load("m", spec)
    assert isinstance(outcomes[1], ModelRefusedError)
    assert outcomes[1].code == "model-exists"


# -- models that are served for tensors alone --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 6, 10, 10), (6,), (1, 6), (2, 3, 5, 7, 2)])
async def test_a_network_that_takes_no_pictures_is_served_raw(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec = resolve(ModelOptions(source=str(onnx_identity(tmp_path / "m.onnx", shape)), task="raw"), tmp_path)
    given = np.random.default_rng(1).random(shape, np.float32)
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", spec)
        answer = await plane.infer_tensors("m", [raw("given", given)])
    assert (metadata.task, metadata.recognition.evidence) == ("raw", "told")
    assert metadata.warm_up_ms > 0
    assert np.array_equal(array_of(answer.outputs[0]), given)


async def test_a_raw_network_takes_several_inputs_and_an_open_shape(tmp_path: Path) -> None:
    spec = resolve(ModelOptions(source=str(onnx_pair(tmp_path / "m.onnx", (None, None))), task="raw"), tmp_path)
    left, right = (np.full((2, 3), number, np.float32) for number in (5, 2))
    async with plane_in(tmp_path) as plane:
        assert (await plane.load("m", spec)).warm_up_ms == 0
        answer = await plane.infer_tensors("m", [raw("right", right), raw("left", left)])
    assert [array_of(one)[0, 0] for one in answer.outputs] == [7, 3]


async def test_a_picture_is_refused_by_a_model_that_takes_tensors_alone(tmp_path: Path) -> None:
    spec = manifest.raw(resolve(ModelOptions(source="classifier"), tmp_path))
    async with plane_in(tmp_path) as plane:
        assert (await plane.load("m", spec)).labels == 0
        with pytest.raises(ModelRefusedError, match="takes tensors, and no pictures") as refused:
            await plane.infer(
                "m", Picture(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), "png", 8, 8)
            )
    assert refused.value.code == "takes-tensors"
