"""A backend that a picture's colour tells what to do: grey is answered, red ends the worker, green hangs it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.inference.runtime.base import Backend, TensorInfo

_MUCH, _LITTLE = 200.0, 60.0


class Moody(Backend):
    """Scores one of three labels, the one whose number is the model's file."""

    name = "moody"
    inputs = (TensorInfo("image", (1, 8, 8, 3), "uint8"),)
    outputs = (TensorInfo("scores", (1, 3), "float32"),)

    @classmethod
    def version(cls) -> str:
        """The version of what runs the models."""
        return "1"

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Its own files."""
        return path.endswith(".moody")

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        del threads, accelerator, options
        self._favourite = int(Path(path).read_text())

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The scores, or the worker's end, or nothing for a minute."""
        red, green, blue = (float(value) for value in arrays[0][0].reshape(-1, 3).mean(axis=0))
        if red > _MUCH and max(green, blue) < _LITTLE:
            ctypes.string_at(0)
        if green > _MUCH and max(red, blue) < _LITTLE:
            time.sleep(60)
        scores = np.full((1, 3), 0.1, np.float32)
        scores[0, self._favourite] = 0.8
        return [scores]
