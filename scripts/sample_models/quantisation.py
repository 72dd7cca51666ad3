"""The float classifier in int8: ranges of a calibration set, per-channel weights, the first convolution in float.

Ranges are the smallest and largest value ever seen. The quantiser's own default, a moving average of them, cuts the
linear bottlenecks off (they reach ±60) and loses a fifth of the answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import quantizer, recipe
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.qtyping import TFLOperationName
from sample_models.pictures import Pixels

Floats = npt.NDArray[np.float32]
Range = tuple[float, float]

# Kept in float: what enters and leaves, the softmax, and the first convolution (three channels gain nothing in int8).
_FLOAT_OPERATIONS = (TFLOperationName.INPUT, TFLOperationName.OUTPUT, TFLOperationName.SOFTMAX)
_FLOAT_LAYERS = ".*conv_stem.*"

# Ranges are widened to multiples of this, so that another CPU's last bit does not change the file.
_STEP = 1 / 32


def quantise(source: Path, target: Path, inputs: list[Floats]) -> None:
    """Write the int8 model of a float one."""
    work = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    for operation in _FLOAT_OPERATIONS:
        work.update_quantization_recipe(".*", operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    work.update_quantization_recipe(
        _FLOAT_LAYERS, TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
    )
    result = work.quantize(_statistics(ranges(source, inputs)))
    target.write_bytes(bytes(result.quantized_model))


def normalised(pixels: Pixels, mean: float, std: float) -> Floats:
    """One picture as a network wants it, with the batch in front."""
    return ((pixels.astype(np.float32) - np.float32(mean)) / np.float32(std))[np.newaxis]


def ranges(model: Path, inputs: list[Floats]) -> dict[str, Range]:
    """The smallest and the largest value of every tensor over all inputs."""
    interpreter = Interpreter(str(model), num_threads=2, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    watched = _watched(interpreter, entry)
    seen: dict[str, Range] = {}
    for each in inputs:
        interpreter.set_tensor(entry, each)
        interpreter.invoke()
        for index, name in watched.items():
            value = interpreter.get_tensor(index)
            low, high = seen.get(name, (np.inf, -np.inf))
            seen[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return seen


def _watched(interpreter: Any, entry: int) -> dict[int, str]:
    """The input and every operation's outputs, delegates aside: index to name."""
    outputs = {
        int(index)
        for operation in interpreter._get_ops_details()  # noqa: SLF001 (there is no public way to see the graph)
        if operation["op_name"] != "DELEGATE"
        for index in operation["outputs"]
    }
    names = {detail["index"]: str(detail["name"]) for detail in interpreter.get_tensor_details()}
    return {index: names[index] for index in sorted(outputs | {entry})}


def _statistics(seen: dict[str, Range]) -> dict[str, dict[str, Floats]]:
    """Ranges in the quantiser's own words."""
    return {
        name: {
            "min": np.asarray(np.floor(low / _STEP) * _STEP, np.float32),
            "max": np.asarray(np.ceil(high / _STEP) * _STEP, np.float32),
        }
        for name, (low, high) in seen.items()
    }
