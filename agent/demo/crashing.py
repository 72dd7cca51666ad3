"""A backend that kills its worker when it is asked: ``agent.demo.crashing:Crashing``, for models that are to fail.

It runs in a worker.  What takes a runtime down in the field (a bad pointer in a delegate, a wrong build) cannot be
put into a model file that crashes on every machine; a null pointer can.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from agent.inference.runtime.base import Backend, TensorInfo

__all__ = ["Crashing"]


class Crashing(Backend):
    """Loads anything, and reads address 0 at the first picture."""

    name = "crashing"

    @classmethod
    def version(cls) -> str:
        """The version of what runs the models."""
        return "1"

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Never by itself: it is named outright."""
        del path
        return False

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        del path, threads, accelerator, options
        self.inputs = [TensorInfo("image", (1, 32, 32, 3), "uint8")]
        self.outputs = [TensorInfo("scores", (1, 2), "float32")]

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The worker's end."""
        ctypes.string_at(0)
        return list(arrays)
