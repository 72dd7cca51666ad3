"""The outputs as they are, for those who interpret them elsewhere.

In results small tensors are nested lists, exact to the last digit; larger ones base64 of the little-endian bytes in
C order, which costs 4/3 bytes per byte where a number in JSON costs ten and more.  To the core both travel as bytes.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

import numpy as np

from agent.inference.runtime.base import Geometry, Labels, Prediction, Task, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options

__all__ = ["Tensors"]

_MOST_BYTES = 8


class Tensors(Task):
    """Options ``format`` (auto, list, base64), ``max_values`` (most numbers in a list), ``max_bytes`` (most in all)."""

    name = "tensors"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        del labels, inputs
        read = Options(options)
        self._names = [info.name for info in outputs]
        self._format = read.choice("format", "auto", ("auto", "list", "base64"))
        self._max_values = read.integer("max_values", 4096, 0, 1_000_000)
        self._max_bytes = read.integer("max_bytes", 8 << 20, 1, 64 << 20)
        read.done()

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """One entry per output: ``name``, ``shape``, ``dtype``, ``data`` (an array) and, for base64, ``encoding``."""
        del geometry
        size = sum(output.nbytes for output in outputs)
        if size > self._max_bytes:
            raise ModelError(
                "outputs-too-large",
                f"the outputs are {size} bytes, options.max_bytes is {self._max_bytes}",
                hint="raise options.max_bytes and the broker's message size, or choose a task that condenses them",
            )
        return [self._tensor(name, output) for name, output in zip(self._names, outputs)]

    def _tensor(self, name: str, values: np.ndarray) -> Prediction:
        entry = {"name": name, "shape": list(values.shape), "dtype": values.dtype.name}
        if self._format == "list" and values.size > self._max_values:
            raise ModelError(
                "outputs-too-large",
                f"output {name} has {values.size} numbers, options.max_values is {self._max_values}",
                hint="use options.format = auto or base64, or raise options.max_values",
            )
        if self._format == "base64" or values.size > self._max_values or not _is_json(values):
            return {**entry, "data": values, "encoding": "base64"}
        return {**entry, "data": values}


def _is_json(values: np.ndarray) -> bool:
    """Whether JSON can say every number: it knows no NaN and no infinity, nor more digits than 64 bits have."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    return kind in "biu" or (kind == "f" and size <= _MOST_BYTES and bool(np.isfinite(values).all()))
