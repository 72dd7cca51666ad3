"""A number of five digits: an output of ten probabilities for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.inference.runtime.base import Geometry, Labels, Prediction, Task, TensorInfo


class Digits(Task):
    """The best digit of each output, in the order of their names."""

    def __init__(
        self, options: Mapping[str, Any], labels: Labels, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
    ) -> None:
        del options, labels, inputs
        self.order = sorted(range(len(outputs)), key=lambda place: outputs[place].name)

    def predictions(self, outputs: Sequence[Any], geometry: Geometry) -> list[Prediction]:
        del geometry
        shares = [outputs[place].reshape(-1) for place in self.order]
        scores = [float(each.max()) for each in shares]
        return [{"text": "".join(str(each.argmax()) for each in shares), "score": sum(scores) / len(scores)}]
