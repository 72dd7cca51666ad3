"""A model that is served for tensors alone (``task = "raw"``): a network without a picture's way in or a task behind.

Nothing of it is recognised, so that no network is refused for what it takes or gives; one run of zeros, where the
shapes are closed, keeps the first request from paying for what a backend puts off.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

import numpy as np

from agent.inference.runtime import arrays, decode, networks
from agent.inference.runtime.base import TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["RAW", "RawSession"]

RAW = "raw"
"""What a manifest calls it in the place of a task."""


class RawSession:
    """A loaded network; ``model`` is the manifest with absolute paths, ``busy`` is called when it has been run.

    Raises ``ModelError`` where it cannot be opened.
    """

    def __init__(self, model: Mapping[str, Any], busy: Callable[[], None] = lambda: None) -> None:
        started = perf_counter()
        decode.configure(int(model.get("threads", 1)))
        self._backend = networks.opened(model)
        self._run = networks.runner(self._backend)
        self._digest = networks.digest(model)
        self._warm_up_ms, self._notes = self._warm_up()
        busy()
        self._load_ms = (perf_counter() - started) * 1e3

    def infer(self, *picture: Any, **how: Any) -> NoReturn:
        """Refuse a picture, however it is to be answered: raises ``ModelError``."""
        del picture, how
        raise ModelError("takes-tensors", "the model takes tensors, and no pictures", "give it a task other than raw")

    def run(self, places: Sequence[Mapping[str, Any]], data: memoryview, wanted: Sequence[str]) -> arrays.Outputs:
        """What lies at ``places`` in ``data`` through the network; raises as ``arrays.answer``."""
        return arrays.answer(self._backend.inputs, self._backend.outputs, self._run, places, data, wanted)

    def describe(self) -> Dict[str, Any]:
        """What the model is, as JSON."""
        why = {"evidence": "told", "why": "it is served for tensors alone", "notes": self._notes}
        return {
            **networks.described(self._backend),
            "task": RAW,
            "digest": self._digest,
            "labels": 0,
            "load_ms": round(self._load_ms, 3),
            "warm_up_ms": round(self._warm_up_ms, 3),
            "longest_ms": round(self._warm_up_ms, 3),
            "recognition": why,
        }

    def _warm_up(self) -> tuple[float, List[str]]:
        given = [_zeros(tensor) for tensor in self._backend.inputs]
        if any(array is None for array in given):
            return 0.0, []
        started = perf_counter()
        try:
            self._run([array for array in given if array is not None])
        except ModelError as error:  # zeros may be what it cannot take, and say nothing of what it can
            return 0.0, [f"zeros are nothing to it: {error.message}"]
        return (perf_counter() - started) * 1e3, []


def _zeros(tensor: TensorInfo) -> Optional[np.ndarray]:
    """An input of zeros, with a batch of one; None where a side is open or it is no array of numbers."""
    shape = [1 if place == 0 and side == -1 else side for place, side in enumerate(tensor.shape)]
    if min(shape, default=1) < 1 or tensor.kind not in tuple("fiub"):
        return None
    return np.zeros(shape, tensor.dtype)
