"""Raw tensors as arrays: in from the shared frame buffer, held against what the network takes, out as a message.

What comes in is looked at here for every backend alike, since backends differ: LiteRT resizes its network, libdlr
reads whatever is in memory.  What goes out is what the network gave: bytes in C order, little-endian as every
processor that workers run on, neither dequantised nor interpreted.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Sequence, Tuple

import numpy as np

from agent.inference.runtime import messages
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["Outputs", "answer", "chosen", "ordered", "read"]


@dataclass(frozen=True)
class Outputs:
    """What a network gave, by name, and how long each step took (ms)."""

    arrays: List[Tuple[str, np.ndarray]]
    timing_ms: Mapping[str, float]

    def message(self, identity: int) -> bytes:
        """The outputs as a message; raises ``ModelError`` for what are no plain numbers, or too many."""
        for name, array in self.arrays:
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
                kind = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
                raise ModelError("outputs-unsupported", f"the output {name!r} is {kind}", "name the outputs to be had")
        size = sum(array.nbytes for _, array in self.arrays)
        if size > messages.MAX_BODY:
            what = f"the outputs are {size} bytes, the limit is {messages.MAX_BODY}"
            raise ModelError("outputs-too-large", what, "name fewer outputs")
        content = {
            "id": identity,
            "outputs": [{"name": name, "dtype": array.dtype.name, "shape": array.shape} for name, array in self.arrays],
            "timing_ms": self.timing_ms,
            "segments": [array.nbytes for _, array in self.arrays],
        }
        return messages.encode(
            messages.OUTPUTS, messages.strict(content), b"".join(array.tobytes() for _, array in self.arrays)
        )


def answer(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    places: Sequence[Mapping[str, Any]],
    data: memoryview,
    wanted: Sequence[str],
) -> Outputs:
    """What lies at ``places`` in ``data`` through a network; raises as ``ordered`` and ``chosen``."""
    given = ordered(read(places, data), inputs)
    start = perf_counter()
    found = run(given)
    timing = {"infer": round((perf_counter() - start) * 1e3, 3)}
    return Outputs(chosen(found, outputs, wanted), timing)


def read(places: Sequence[Mapping[str, Any]], data: memoryview) -> Dict[str, np.ndarray]:
    """The arrays that lie in ``data``, by name and without copying: valid as long as the buffer is."""
    return {
        place["name"]: np.frombuffer(
            data, np.dtype(place["dtype"]), math.prod(place["shape"]), place["offset"]
        ).reshape(place["shape"])
        for place in places
    }


def ordered(arrays: Mapping[str, np.ndarray], inputs: Sequence[TensorInfo]) -> List[np.ndarray]:
    """The arrays in the network's order; raises ``ModelError`` where they are not what it takes."""
    names = [tensor.name for tensor in inputs]
    if names == [""] and len(arrays) == 1:  # a file that does not name its input
        arrays = {"": next(iter(arrays.values()))}
    for name in arrays:
        if name not in names:
            _refuse(f"the model has no input {name!r}", inputs, _guess(name, names))
    for tensor in inputs:
        if tensor.name not in arrays:
            _refuse(f"the input {tensor.name!r} is missing", inputs)
        array = arrays[tensor.name]
        if array.dtype.name != tensor.dtype or not _fits(array.shape, tensor.shape):
            _refuse(f"the input {tensor.name!r} is {array.dtype.name} {list(array.shape)}", inputs)
    return [arrays[name] for name in names]


def chosen(
    arrays: Sequence[np.ndarray], outputs: Sequence[TensorInfo], wanted: Sequence[str]
) -> List[Tuple[str, np.ndarray]]:
    """The arrays with their names, those that are wanted or all; raises ``ModelError`` for a name that none has."""
    named = [(tensor.name, array) for tensor, array in zip(outputs, arrays)]
    if not wanted:
        return named
    known = dict(named)
    for name in wanted:
        if name not in known:
            hint = f"{_guess(name, list(known))}its outputs: {', '.join(known)}"
            raise ModelError("tensor-wrong", f"the model has no output {name!r}", hint)
    return [(name, known[name]) for name in wanted]


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(side in (-1, given) for given, side in zip(shape, wanted))


def _guess(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _refuse(what: str, inputs: Sequence[TensorInfo], guess: str = "") -> NoReturn:
    listed = ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in inputs)
    raise ModelError("tensor-wrong", what, f"{guess}the model takes {listed}")
