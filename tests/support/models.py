"""Tiny real models, written when a test asks for them: each loads in a millisecond and has a known answer.

``colours``   answers a picture with the mean of each of its channels: what a red picture gives tells
              the order of colours, the layout, the normalisation and the quantisation at once.
``constant``  answers every picture with the arrays it was made with: shaped like YOLO's, SSD's …
``bright``    detects what is bright: one box around all of it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, external_data_helper, helper, numpy_helper

IR_VERSION = 8
OPSET = 13
TFLITE_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
}


def onnx_colours(
    path: Path,
    size: tuple[int | None, int | None] = (8, 8),
    *,
    layout: str = "NCHW",
    dtype: str = "float32",
    batch: int | None = 1,
    properties: Mapping[str, str] | None = None,
) -> Path:
    """An ONNX file whose output ``means`` holds the mean of each channel; None leaves a dimension open."""
    height, width = size
    shape = [batch, 3, height, width] if layout == "NCHW" else [batch, height, width, 3]
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["means"], axes=axes, keepdims=0),
    ]
    return _save(
        path,
        nodes if dtype != "float32" else [helper.make_node("ReduceMean", ["images"], ["means"], axes=axes, keepdims=0)],
        [helper.make_tensor_value_info("images", _onnx_type(dtype), shape)],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, [batch, 3])],
        [],
        properties,
    )


def onnx_bright(
    path: Path,
    size: tuple[int | None, int | None] = (32, 32),
    *,
    dtype: str = "float32",
    batch: int | None = 1,
    told: tuple[str, str] | None = None,
) -> Path:
    """An ONNX file (input ``images``) that detects what is brighter than 0.5: the first row of [1, 4, 6], scored 0.9.

    ``told`` is the name and type of a second input [1, 2], a width and a height: the box is in pixels of these, in
    place of the network's picture.
    """
    height, width = size
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["grey"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["grey", "half"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["lit"], to=TensorProto.FLOAT),
    ]
    for axis, along in ((2, "columns"), (1, "rows")):
        nodes += [
            helper.make_node("ReduceMax", ["lit"], [along], axes=[3 - axis], keepdims=0),
            helper.make_node("ArgMax", [along], [f"{along}/first"], axis=1, keepdims=1),
            helper.make_node("ArgMax", [along], [f"{along}/last"], axis=1, keepdims=1, select_last_index=1),
            helper.make_node("Add", [f"{along}/last", "one"], [f"{along}/end"]),
        ]
    sides = ["columns/first", "rows/first", "columns/end", "rows/end"]
    nodes += [
        helper.make_node("Concat", sides, ["whole"], axis=1),
        helper.make_node("Cast", ["whole"], ["pixels"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info("images", _onnx_type(dtype), [batch, 3, height, width])]
    weights = [numpy_helper.from_array(np.float32(0.5), "half"), numpy_helper.from_array(np.int64(1), "one")]
    weights += [numpy_helper.from_array(np.float32([[0.9]]), "sure"), numpy_helper.from_array(np.float32(0), "zero")]
    box = "pixels"
    if told:
        box = "told/box"
        inputs.append(helper.make_tensor_value_info(told[0], _onnx_type(told[1]), [1, 2]))
        weights.append(numpy_helper.from_array(np.float32([[width, height] * 2]), "own"))
        nodes += [
            helper.make_node("Cast", [told[0]], ["told"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["told", "told"], ["told/sides"], axis=1),
            helper.make_node("Div", ["pixels", "own"], ["fractions"]),
            helper.make_node("Mul", ["fractions", "told/sides"], [box]),
        ]
    nodes += [
        helper.make_node("ReduceMax", ["columns"], ["any"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["any", "sure"], ["score"]),
        helper.make_node("Mul", ["any", "zero"], ["class"]),
        helper.make_node("Concat", [box, "score", "class"], ["found"], axis=1),
        helper.make_node("Mul", ["found", "any"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "one_axis"], ["first"]),
        helper.make_node("Mul", ["first", "zero"], ["none"]),
        helper.make_node("Concat", ["first", "none", "none", "none"], ["detections"], axis=1),
    ]
    weights.append(numpy_helper.from_array(np.int64([1]), "one_axis"))
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, [batch, 4, 6])
    return _save(path, nodes, inputs, [found], weights, None)


def onnx_inspector(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    """An ONNX file (input ``images``, 0 to 1) with Anomalib's outputs: what is bright is an anomaly."""
    height, width = size
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["anomaly_map"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["anomaly_map"], ["pred_score"], axes=[1, 2, 3], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 1, height, width]),
    ]
    return _save(path, nodes, [_images(size)], outputs, [], None)


def onnx_colour_classes(path: Path, size: tuple[int, int] = (64, 64), heads: tuple[str, ...] = ("planes",)) -> Path:
    """An ONNX file (input ``images``, 0 to 1) that tells what is dark, red, green and blue: logits of these classes.

    Its outputs are ``planes``, of every place, and ``scores``, of the whole picture.
    """
    height, width = size
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["dark"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["dark", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "little"], ["background"]),
        helper.make_node("Concat", ["background", "images"], ["all"], axis=1),
        helper.make_node("Mul", ["all", "much"], ["planes"]),
        helper.make_node("ReduceMean", ["planes"], ["scores"], axes=[2, 3], keepdims=0),
    ]
    weights = [numpy_helper.from_array(np.float32(value), name) for name, value in
               (("none", 0.0), ("little", 0.5), ("much", 20.0))]  # fmt: skip
    shapes = {"planes": [1, 4, height, width], "scores": [1, 4]}
    outputs = [helper.make_tensor_value_info(head, TensorProto.FLOAT, shapes[head]) for head in heads]
    return _save(path, nodes, [_images(size)], outputs, weights, None)


def _images(size: tuple[int, int]):
    return helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])


def onnx_identity(path: Path, shape: Sequence[int], dtype: str = "float32") -> Path:
    """An ONNX file that answers with its input."""
    given, taken = (helper.make_tensor_value_info(name, _onnx_type(dtype), shape) for name in ("given", "taken"))
    return _save(path, [helper.make_node("Identity", ["given"], ["taken"])], [given], [taken], [], None)


def onnx_pair(path: Path, shape: Sequence[int | None] = (1, 4), dtype: str = "float32") -> Path:
    """An ONNX file with the inputs ``left`` and ``right`` and the outputs ``sum`` and ``difference``."""
    given = [helper.make_tensor_value_info(name, _onnx_type(dtype), shape) for name in ("left", "right")]
    taken = [helper.make_tensor_value_info(name, _onnx_type(dtype), shape) for name in ("sum", "difference")]
    nodes = [
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("Sub", ["left", "right"], ["difference"]),
    ]
    return _save(path, nodes, given, taken, [], None)


def _onnx_type(dtype: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def onnx_constant(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    size: tuple[int, int] = (8, 8),
    properties: Mapping[str, str] | None = None,
) -> Path:
    """An ONNX file (input ``images``, 1 × 3 × height × width) that answers with ``outputs`` (float32), always."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}/value", "nothing"], [name]) for name in outputs),
    ]
    weights = [numpy_helper.from_array(np.float32(0).reshape(()), "zero")]
    weights += [numpy_helper.from_array(array.astype(np.float32), f"{name}/value") for name, array in outputs.items()]
    told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in outputs.items()]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    return _save(path, nodes, [images], told, weights, properties)


def onnx_external(path: Path, outputs: Mapping[str, np.ndarray], *locations: str) -> Path:
    """``onnx_constant`` whose weights lie in other files: all in one, or as many as there are weights."""
    model = onnx.load(str(onnx_constant(path, outputs)))
    names = locations or (f"{path.name}_data",)
    for number, tensor in enumerate(model.graph.initializer):
        external_data_helper.set_external_data(tensor, location=names[number % len(names)])
    written: dict[str, bytes] = {}
    for tensor in model.graph.initializer:
        place = next(entry for entry in tensor.external_data if entry.key == "location").value
        data = written.get(place, b"").ljust(4096 * -(-len(written.get(place, b"")) // 4096), b"\0")
        for key, value in (("offset", len(data)), ("length", len(tensor.raw_data))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        written[place] = data + tensor.raw_data
        tensor.ClearField("raw_data")
    for place, data in written.items():
        if ".." not in place and not place.startswith("/"):
            (path.parent / place).parent.mkdir(parents=True, exist_ok=True)
            (path.parent / place).write_bytes(data)
    path.write_bytes(model.SerializeToString())
    return path


def _save(path, nodes, given, outputs, weights, properties) -> Path:
    graph = helper.make_graph(nodes, "test", given, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(properties or {}))
    onnx.save(model, str(path))
    return path


@dataclass(frozen=True)
class Metadata:
    """What ``tflite_colours`` writes into the TFLite metadata table and into the zip behind the model."""

    labels: Sequence[str] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    name: str = "a test"


def tflite_colours(
    path: Path,
    size: tuple[int, int] = (8, 8),
    *,
    layout: str = "NHWC",
    dtype: str = "float32",
    scale: float | None = None,
    zero_point: int = 0,
    dynamic: bool = False,
    metadata: Metadata | None = None,
) -> Path:
    """A TFLite file whose output holds the mean of each channel, in the input's type and quantisation."""
    height, width = size
    planar = layout == "NCHW"
    shape = [1, 3, height, width] if planar else [1, height, width, 3]
    model = _TFLite()
    images = model.tensor("images", shape, dtype, scale, zero_point, dynamic=dynamic)
    axes = model.tensor("axes", [2], "int32", data=np.array([2, 3] if planar else [1, 2], np.int32))
    means = model.tensor("means", [1, 3], dtype, scale, zero_point)
    model.operator(schema.BuiltinOperator.MEAN, [images, axes], means, *_reducer())
    return model.save(path, [images], [means], metadata)


def tflite_constant(path: Path, outputs: Mapping[str, np.ndarray], size: tuple[int, int] = (8, 8)) -> Path:
    """A TFLite file (input 1 × height × width × 3, float32) that answers with ``outputs`` (float32), always."""
    model = _TFLite()
    images = model.tensor("images", [1, *size, 3], "float32")
    axes = model.tensor("axes", [4], "int32", data=np.arange(4, dtype=np.int32))
    zero = model.tensor("zero", [1], "float32", data=np.zeros(1, np.float32))
    mean, nothing = model.tensor("mean", [], "float32"), model.tensor("nothing", [1], "float32")
    model.operator(schema.BuiltinOperator.MEAN, [images, axes], mean, *_reducer())
    model.operator(
        schema.BuiltinOperator.MUL, [mean, zero], nothing, schema.BuiltinOptions.MulOptions, schema.MulOptionsT()
    )
    results = []
    for name, array in outputs.items():
        value = model.tensor(f"{name}/value", list(array.shape), "float32", data=array.astype(np.float32))
        results.append(model.tensor(name, list(array.shape), "float32"))
        model.operator(
            schema.BuiltinOperator.ADD,
            [value, nothing],
            results[-1],
            schema.BuiltinOptions.AddOptions,
            schema.AddOptionsT(),
        )
    return model.save(path, [images], results)


def _reducer():
    options = schema.ReducerOptionsT()
    options.keepDims = False
    return schema.BuiltinOptions.ReducerOptions, options


class _TFLite:
    """A TFLite model of one subgraph, as the object tree that the schema's own code packs."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name, shape, dtype, scale=None, zero_point=0, *, data=None, dynamic=False):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), shape, TFLITE_TYPES[dtype]
        tensor.hasRank = True
        tensor.buffer = self.buffer(data.tobytes()) if data is not None else 0
        if dynamic:
            tensor.shapeSignature = [-1, *shape[1:]]
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def buffer(self, data):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def operator(self, code, inputs, output, kind, options):
        told = schema.OperatorCodeT()
        told.builtinCode = told.deprecatedBuiltinCode = code
        told.version = 2 if code == schema.BuiltinOperator.MEAN else 1
        self.model.operatorCodes.append(told)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.graph.operators.append(operator)

    def save(self, path, inputs, outputs, metadata=None) -> Path:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        if metadata is not None:
            entry = schema.MetadataT()
            entry.name, entry.buffer = b"TFLITE_METADATA", self.buffer(metadata_table(metadata))
            self.model.metadata = [entry]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        data = bytes(builder.Output())
        if metadata is not None and metadata.labels:
            data += appended({"labels.txt": "\n".join(metadata.labels) + "\n"})
        path.write_bytes(data)
        return path


def appended(files: Mapping[str, str]) -> bytes:
    """A zip of text files, to be put behind a model."""
    told = io.BytesIO()
    with zipfile.ZipFile(told, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return told.getvalue()


def metadata_table(metadata: Metadata) -> bytes:
    """The TFLite metadata table: field numbers as in its published schema."""
    builder = flatbuffers.Builder(256)
    image = _table(builder, {0: ("int8", 1)})
    content = _table(builder, {0: ("uint8", 2), 1: image})
    units = []
    if metadata.mean:
        options = _table(builder, {0: _floats(builder, metadata.mean), 1: _floats(builder, metadata.std)})
        units = [_table(builder, {0: ("uint8", 1), 1: options})]
    given = _table(builder, {3: content, 4: _tables(builder, units)})
    files = []
    if metadata.labels:
        files = [_table(builder, {0: builder.CreateString("labels.txt"), 2: ("int8", 2)})]
    taken = _table(builder, {6: _tables(builder, files)})
    graph = _table(builder, {2: _tables(builder, [given]), 3: _tables(builder, [taken])})
    root = _table(builder, {0: builder.CreateString(metadata.name), 3: _tables(builder, [graph])})
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def _table(builder, fields):
    builder.StartObject(8)
    for field, value in fields.items():
        if isinstance(value, tuple):
            kind, number = value
            put = builder.PrependInt8Slot if kind == "int8" else builder.PrependUint8Slot
            put(field, number, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, value, 0)
    return builder.EndObject()


def _tables(builder, tables):
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _floats(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
