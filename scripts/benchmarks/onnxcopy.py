"""The same network in the other format: an ONNX file with the operators and weights of a TFLite file.

Pictures are planar (NCHW) in the copy, as ONNX's runtimes want them; an operator that looks at a tensor's rows
(``RESHAPE``) gets them back in TFLite's order.  Two kinds of copy:

========  =============================================================================================
float     every weight as the real number it stands for, float32 arithmetic
int8      weights and activations quantised as they are in the file, between QuantizeLinear and
          DequantizeLinear, which runtimes turn into integer arithmetic
========  =============================================================================================

Of a file that holds no integers (float32, float16) both are the same.  Only the operators of common picture networks
are known; another one is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from scripts.benchmarks.tflite import (
    ACTIVATIONS,
    SAME,
    Network,
    Operator,
    Quantisation,
    Tensor,
    UnknownOperatorError,
    same_pads,
)

OPSET, IR = 17, 8
_IMAGE = 4


def write(network: Network, path: Path, kind: str) -> None:
    """Write the copy; raises ``UnknownOperatorError``."""
    path.write_bytes(_Copy(network, integers=kind == "int8").model().SerializeToString())


class _Copy:
    def __init__(self, network: Network, *, integers: bool) -> None:
        self._network, self._integers = network, integers
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._planar = {tensor.name for tensor in network.inputs if len(tensor.shape) == _IMAGE}
        self._folded: dict[str, npt.NDArray[np.float32]] = {}
        self._now: dict[str, str] = {tensor.name: tensor.name for tensor in network.inputs}
        """What holds the real numbers of a TFLite tensor."""

    def model(self) -> onnx.ModelProto:
        for operator in self._network.operators:
            step = _STEPS.get(operator.name)
            if step is None:
                raise UnknownOperatorError(f"the operator {operator.name}")
            step(self, operator)
        for tensor in self._network.outputs:
            self._node("Identity", [self._now[tensor.name]], tensor.name)
        inputs = [_value(tensor, planar=tensor.name in self._planar) for tensor in self._network.inputs]
        outputs = [_value(tensor, planar=False) for tensor in self._network.outputs]
        graph = helper.make_graph(self._nodes, "copy", inputs, outputs, list(self._weights.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(model, full_check=True)
        return model

    # -- operators ---------------------------------------------------------------------------------------------

    def convolution(self, operator: Operator) -> None:
        picture, weight, *_ = operator.inputs
        if operator.name == "CONV_2D":
            order, groups = (0, 3, 1, 2), picture.shape[3] // weight.shape[3]
        else:
            order, groups = (3, 0, 1, 2), picture.shape[3]
        strides = [operator.options["strideH"], operator.options["strideW"]]
        dilations = [operator.options["dilationHFactor"], operator.options["dilationWFactor"]]
        sizes = weight.shape[1:3]
        pads = [0, 0, 0, 0]
        if operator.options["padding"] == SAME:
            pads = same_pads(picture.shape[1:3], sizes, strides, dilations)
        self._emit(
            "Conv", operator, self._parameters(operator, order),
            kernel_shape=list(sizes), strides=strides, dilations=dilations, pads=pads, group=groups,
        )  # fmt: skip
        self._planar.add(operator.outputs[0].name)

    def dense(self, operator: Operator) -> None:
        self._emit("Gemm", operator, self._parameters(operator, (0, 1)), transB=1)

    def add(self, operator: Operator) -> None:
        first, second = operator.inputs
        planes = {self._is_planar(tensor) for tensor in operator.inputs}
        if first.shape != second.shape or len(planes) > 1 or any(each.constant is not None for each in operator.inputs):
            raise UnknownOperatorError("an ADD of two shapes or of a constant")
        self._emit("Add", operator, [self._real(first), self._real(second)])
        if True in planes:
            self._planar.add(operator.outputs[0].name)

    def mean(self, operator: Operator) -> None:
        """Over rows and columns alone."""
        picture, axes = operator.inputs
        if axes.constant is None or sorted(axes.constant.tolist()) != [1, 2] or not self._is_planar(picture):
            raise UnknownOperatorError("a MEAN that is not over rows and columns")
        if operator.options["keepDims"]:
            self._emit("GlobalAveragePool", operator, [self._real(picture)])
            self._planar.add(operator.outputs[0].name)
            return
        pooled = self._node("GlobalAveragePool", [self._real(picture)], f"{operator.outputs[0].name}/pooled")
        pooled = self._requantised(operator.outputs[0], pooled, pooled)
        self._emit("Flatten", operator, [pooled], axis=1)

    def reshape(self, operator: Operator) -> None:
        (tensor, *_), (result,) = operator.inputs, operator.outputs
        shape = self._constant(f"{result.name}/shape", np.array(result.shape, np.int64))
        self._emit("Reshape", operator, [self._rows(tensor), shape])

    def concatenation(self, operator: Operator) -> None:
        parts = [self._rows(tensor) for tensor in operator.inputs]
        self._emit("Concat", operator, parts, axis=operator.options["axis"])

    def softmax(self, operator: Operator) -> None:
        if operator.options["beta"] != 1:
            raise UnknownOperatorError("a SOFTMAX with a temperature")
        self._emit("Softmax", operator, [self._rows(operator.inputs[0])], axis=-1)

    def change_of_type(self, operator: Operator) -> None:
        """QUANTIZE and DEQUANTIZE: the real number stays what it is, but for the rounding."""
        (tensor,), (result,) = operator.inputs, operator.outputs
        if tensor.constant is not None:
            self._folded[result.name] = tensor.reals
            return
        if self._is_planar(tensor):
            self._planar.add(result.name)
        self._now[result.name] = self._requantised(result, self._real(tensor), result.name)

    # -- parts of them -----------------------------------------------------------------------------------------

    def _emit(self, kind: str, operator: Operator, inputs: Sequence[str], **attributes: Any) -> None:
        """A node, its fused activation and its output's quantisation."""
        (result,) = operator.outputs
        value = self._node(kind, inputs, f"{result.name}/{kind}", **attributes)
        fused = operator.options.get("fusedActivationFunction", 0)
        if fused not in ACTIVATIONS:
            raise UnknownOperatorError(f"the fused activation {fused}")
        if (limits := ACTIVATIONS[fused]) and not (self._integers and _covers(result, limits)):
            ends = [self._constant(f"limit/{end}", np.array(end, np.float32)) for end in limits]
            value = self._node("Clip", [value, *ends], f"{result.name}/Clip")
        self._now[result.name] = self._requantised(result, value, result.name)

    def _parameters(self, operator: Operator, order: tuple[int, ...]) -> list[str]:
        """What a convolution or a dense layer reads: its input, weights in ONNX's order, and biases."""
        picture, weight, *bias = operator.inputs
        return [self._real(picture), self._weight(weight, order), *(self._weight(each, (0,)) for each in bias)]

    def _weight(self, tensor: Tensor, order: tuple[int, ...]) -> str:
        stored, how = tensor.constant, tensor.quantisation
        if not self._integers or stored is None or how is None:
            values = self._folded.get(tensor.name)
            return self._constant(tensor.name, (tensor.reals if values is None else values).transpose(order))
        turned = Quantisation(how.scale, how.zero_point, order.index(how.axis) if how.scale.size > 1 else 0)
        whole = self._constant(f"{tensor.name}/stored", stored.transpose(order))
        return self._dequantised(tensor.name, whole, turned, stored.dtype)

    def _requantised(self, tensor: Tensor, value: str, name: str) -> str:
        """The value, rounded to what the tensor can hold."""
        how = tensor.quantisation
        if not self._integers or how is None or not tensor.dtype.startswith(("int", "uint")):
            return value
        dtype = np.dtype(tensor.dtype)
        whole = self._node("QuantizeLinear", [value, *self._scale(name, how, dtype)], f"{name}/stored")
        return self._dequantised(name, whole, how, dtype)

    def _dequantised(self, name: str, whole: str, how: Quantisation, dtype: npt.DTypeLike) -> str:
        axis = {"axis": how.axis} if how.scale.size > 1 else {}
        return self._node("DequantizeLinear", [whole, *self._scale(name, how, dtype)], f"{name}/real", **axis)

    def _scale(self, name: str, how: Quantisation, dtype: npt.DTypeLike) -> list[str]:
        scale, zero_point = how.scale, how.zero_point.astype(dtype)
        if scale.size == 1:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        return [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero_point", zero_point)]

    def _real(self, tensor: Tensor) -> str:
        return self._now[tensor.name]

    def _is_planar(self, tensor: Tensor) -> bool:
        return tensor.name in self._planar

    def _rows(self, tensor: Tensor) -> str:
        """A tensor with its axes in TFLite's order."""
        if not self._is_planar(tensor):
            return self._real(tensor)
        return self._node("Transpose", [self._real(tensor)], f"{tensor.name}/rows", perm=[0, 2, 3, 1])

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        if name not in self._weights:
            # asarray: ascontiguousarray would make a scalar a vector.
            self._weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{output}:{kind}", **attributes))
        return output


_STEPS: Mapping[str, Callable[[_Copy, Operator], None]] = {
    "CONV_2D": _Copy.convolution,
    "DEPTHWISE_CONV_2D": _Copy.convolution,
    "FULLY_CONNECTED": _Copy.dense,
    "ADD": _Copy.add,
    "MEAN": _Copy.mean,
    "RESHAPE": _Copy.reshape,
    "CONCATENATION": _Copy.concatenation,
    "SOFTMAX": _Copy.softmax,
    "QUANTIZE": _Copy.change_of_type,
    "DEQUANTIZE": _Copy.change_of_type,
}


def _value(tensor: Tensor, *, planar: bool) -> onnx.ValueInfoProto:
    rows, columns, channels = tensor.shape[1:] if planar else (0, 0, 0)
    shape = (tensor.shape[0], channels, rows, columns) if planar else tensor.shape
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape)


def _covers(tensor: Tensor, limits: tuple[float, float]) -> bool:
    """Whether what the tensor can hold ends where the activation cuts, so that rounding cuts too."""
    how = tensor.quantisation
    if how is None:
        return False
    ends = np.iinfo(tensor.dtype)
    low, high = ((end - how.zero_point[0]) * how.scale[0] for end in (ends.min, ends.max))
    return bool(low >= limits[0] and high <= limits[1] + how.scale[0] / 2)
