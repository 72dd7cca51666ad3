"""One number whose sign tells whether a page stands on its head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agent.inference.runtime.base import Geometry, Labels, Prediction, Task, TensorInfo


class UpsideDown(Task):
    """Upside down or upright, and how sure the network is of it."""

    def __init__(
        self, options: Mapping[str, Any], labels: Labels, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
    ) -> None:
        del options, labels, inputs, outputs

    def predictions(self, outputs: Sequence[Any], geometry: Geometry) -> list[Prediction]:
        del geometry
        share = 1 / (1 + math.exp(-float(outputs[0].reshape(-1)[0])))
        best = round(share)
        return [{"label": ("upright", "upside down")[best], "label_id": best, "score": max(share, 1 - share)}]
