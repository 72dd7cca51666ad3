"""The same network for libdlr: a folder as SageMaker Neo writes it, its operators plain loops in C, built by gcc.

Neo's compiler is a service and TVM is not at hand, so the speed of such a copy says nothing of theirs: what it shows is
that libdlr, its staging and its tensors give back the network's answers.  All arithmetic is float32, pictures stay
in TFLite's order, and only the operators of common picture networks are known.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.benchmarks.tflite import ACTIVATIONS, SAME, Network, Operator, Tensor, UnknownOperatorError, same_pads
from tests.support import tvm

LOOPS = """
#pragma GCC optimize("O3")
#include <string.h>
#define LOOP(i, n) for (int i = 0; i < (n); i++)
#define INLINE static inline __attribute__((always_inline)) void
INLINE cut(float *y, int n, float low, float high) {
  LOOP(i, n) { y[i] = y[i] < low ? low : y[i]; y[i] = y[i] > high ? high : y[i]; }
}
INLINE conv(const float *x, const float *w, const float *b, float *y, int each, int H, int W, int C,
            int OH, int OW, int OC, int KH, int KW, int SH, int SW, int DH, int DW, int top, int left,
            float low, float high) {
  LOOP(r, OH) LOOP(s, OW) {
    float *out = y + (r * OW + s) * OC;
    memcpy(out, b, OC * sizeof(float));
    LOOP(k, KH) LOOP(l, KW) {
      int i = r * SH + k * DH - top, j = s * SW + l * DW - left;
      if (i < 0 || i >= H || j < 0 || j >= W) continue;
      const float *in = x + (i * W + j) * C, *row = w + (k * KW + l) * (each ? C : C * OC);
      if (each) LOOP(c, C) out[c] += in[c] * row[c];
      else LOOP(c, C) { float v = in[c]; LOOP(o, OC) out[o] += v * row[c * OC + o]; }
    }
    cut(out, OC, low, high);
  }
}
INLINE add(const float *a, const float *b, float *y, int n, float low, float high) {
  LOOP(i, n) y[i] = a[i] + b[i];
  cut(y, n, low, high);
}
INLINE mean(const float *x, float *y, int n, int C) {
  LOOP(c, C) { double sum = 0; LOOP(i, n) sum += x[i * C + c]; y[c] = (float)(sum / n); }
}
INLINE softmax(const float *x, float *y, int n) {
  float top = x[0]; double sum = 0;
  LOOP(i, n) top = x[i] > top ? x[i] : top;
  LOOP(i, n) sum += y[i] = expf(x[i] - top);
  LOOP(i, n) y[i] = (float)(y[i] / sum);
}
"""


Parameters = tuple[npt.NDArray[np.float32], ...]


def write(network: Network, folder: Path) -> None:
    """Write the copy; raises ``UnknownOperatorError``, where there is no compiler as well."""
    if shutil.which("gcc") is None:
        raise UnknownOperatorError("how to compile without gcc: apt-get install gcc libc6-dev")
    copy = _Copy(network)
    copy.graph.save(folder, LOOPS + "".join(copy.functions), [copy.now[tensor.name] for tensor in network.outputs])


class _Copy:
    """The graph, one C function for each operator, and where each TFLite tensor is in the graph.

    libdlr looks for a network's inputs before its weights, and all of them come before the operators.
    """

    def __init__(self, network: Network) -> None:
        self.graph = tvm.Graph()
        self.functions: list[str] = []
        self.now = {tensor.name: self.graph.input(tensor.name, tensor.shape) for tensor in network.inputs}
        self._folded = {
            step.outputs[0].name: step.inputs[0].reals
            for step in network.operators
            if step.name == "DEQUANTIZE" and step.inputs[0].constant is not None
        }
        steps = [step for step in network.operators if step.outputs[0].name not in self._folded]
        parameters = [
            [self.graph.weight(f"weight{number}_{place}", array) for place, array in enumerate(self._parameters(step))]
            for number, step in enumerate(steps)
        ]
        for step, nodes in zip(steps, parameters, strict=True):
            self._call(step, nodes)

    def _call(self, step: Operator, parameters: list[list[int]]) -> None:
        if step.name not in _BODIES:
            raise UnknownOperatorError(f"the operator {step.name}")
        (result,) = step.outputs
        given = [self.now[tensor.name] for tensor in step.inputs if tensor.name in self.now]
        body = _BODIES[step.name](step)
        if body is None:
            (self.now[result.name],) = given
            return
        name = f"step{len(self.functions)}"
        self.functions.append(f"OP({name}) {{ {body} return 0; }}\n")
        (self.now[result.name],) = self.graph.op(name, [*given, *parameters], (result.shape, "float32"))

    def _parameters(self, step: Operator) -> Parameters:
        """Weights with the output channels last, so that the innermost loop runs over neighbours, and biases."""
        if step.name not in _ORDERS:
            return ()
        _, weight, *bias = step.inputs
        if not bias:
            raise UnknownOperatorError(f"a {step.name} without biases")
        return self._reals(weight).transpose(_ORDERS[step.name]), self._reals(bias[0])

    def _reals(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        folded = self._folded.get(tensor.name)
        return tensor.reals if folded is None else folded


_ORDERS: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2, 3, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (1, 0),
}


def _convolution(step: Operator) -> str:
    picture, weight, *_ = step.inputs
    (height, width, channels), (*_, out) = picture.shape[1:], step.outputs[0].shape
    options, each = step.options, step.name == "DEPTHWISE_CONV_2D"
    if channels != (out if each else weight.shape[3]):
        raise UnknownOperatorError("a convolution in groups")
    strides, dilations = (
        (options["strideH"], options["strideW"]),
        (options["dilationHFactor"], options["dilationWFactor"]),
    )
    pads = [0, 0]
    if options["padding"] == SAME:
        pads = same_pads((height, width), weight.shape[1:3], strides, dilations)[:2]
    sizes = (height, width, channels, *step.outputs[0].shape[1:], *weight.shape[1:3], *strides, *dilations, *pads)
    return _conv(step, int(each), *sizes)


def _dense(step: Operator) -> str:
    out, channels = step.inputs[1].shape
    return _conv(step, 0, 1, 1, channels, 1, 1, out, 1, 1, 1, 1, 1, 1, 0, 0)


def _conv(step: Operator, *numbers: int) -> str:
    told = ", ".join(map(str, numbers))
    return f"conv(FLOATS(0), FLOATS(1), FLOATS(2), FLOATS(3), {told}, {_limits(step)});"


def _limits(step: Operator) -> str:
    cut = ACTIVATIONS[step.options["fusedActivationFunction"]] or (-np.inf, np.inf)
    return ", ".join(str(end).replace("inf", "INFINITY") for end in cut)


def _add(step: Operator) -> str:
    if step.inputs[0].shape != step.inputs[1].shape or any(tensor.constant is not None for tensor in step.inputs):
        raise UnknownOperatorError("an ADD of two shapes or of a constant")
    return f"add(FLOATS(0), FLOATS(1), FLOATS(2), {prod(step.inputs[0].shape)}, {_limits(step)});"


def _mean(step: Operator) -> str:
    picture, axes = step.inputs
    if axes.constant is None or sorted(axes.constant.tolist()) != [1, 2]:
        raise UnknownOperatorError("a MEAN that is not over rows and columns")
    return f"mean(FLOATS(0), FLOATS(1), {prod(picture.shape[1:3])}, {picture.shape[3]});"


def _softmax(step: Operator) -> str:
    return f"softmax(FLOATS(0), FLOATS(1), {step.inputs[0].shape[-1]});"


def _copied(step: Operator) -> str:
    """Tensors one after the other: a change of shape, or parts joined along the first axis that is none of 1."""
    (result,) = step.outputs
    parts = step.inputs if step.name == "CONCATENATION" else step.inputs[:1]
    if len(parts) > 1 and prod(result.shape[: step.options["axis"]]) != 1:
        raise UnknownOperatorError("a CONCATENATION of columns")
    lines, at = [], 0
    for place, part in enumerate(parts):
        lines.append(f"memcpy(FLOATS({len(parts)}) + {at}, FLOATS({place}), {prod(part.shape)} * sizeof(float));")
        at += prod(part.shape)
    return " ".join(lines)


def _nothing(step: Operator) -> None:
    del step


_BODIES: Mapping[str, Callable[[Operator], str | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _dense,
    "ADD": _add,
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "RESHAPE": _copied,
    "CONCATENATION": _copied,
    "QUANTIZE": _nothing,
    "DEQUANTIZE": _nothing,
}
"""The C of each operator; None for one that changes no real number."""
