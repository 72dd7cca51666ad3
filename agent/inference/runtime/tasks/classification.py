"""Image classification: one vector of scores per frame.

``activation = "auto"`` looks at the numbers of each run: probabilities (all in [0, 1], sum 1) are taken
as they are, and so is a tensor quantised as only probabilities are; anything else passes through softmax.
A network whose classes are independent of each other (several may be true at once) needs
``activation = "sigmoid"`` or ``"none"`` said.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Union

import numpy as np

from agent.inference.runtime.base import Geometry, Labels, Prediction, Task, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.labels import shift
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import ACTIVATIONS, finite, probabilities

__all__ = ["ImageClassification"]

_MAX_CLASSES = 1_000_000

# TFLite fixes the quantisation of softmax and sigmoid outputs; 8 bits cannot hold a flat distribution's sum.
_PROBABILITY_SCALE = 1 / 256


class ImageClassification(Task):
    """The best classes of a frame; options ``top_k``, ``threshold``, ``activation``, ``background``, ``output``."""

    name = "image-classification"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        del inputs
        read = Options(options)
        self._labels = labels
        self._top_k = read.integer("top_k", 5, 1, 1000)
        self._threshold = read.number("threshold", 0.0, 0.0, 1.0)
        self._activation = read.choice("activation", "auto", ACTIVATIONS)
        self._background = read.flag("background")
        self._output = _choose(outputs, read.tensor("output"))
        read.done()
        if self._activation == "auto" and outputs[self._output].scale == _PROBABILITY_SCALE:
            self._activation = "none"

    @classmethod
    def recognises(cls, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """One output, one vector: [1,C], [C], [1,1,1,C] or [1,C,1,1]."""
        del inputs
        return len(outputs) == 1 and _is_vector(outputs[0].shape)

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The ``top_k`` classes from ``threshold`` on, best first; equal scores in the order of the classes."""
        del geometry
        values = finite(np.asarray(outputs[self._output], dtype=np.float32).reshape(-1))
        scores = probabilities(values, self._activation)
        skip, first = shift(self._labels, scores.size, self._background)
        best = skip + _largest(scores[skip:], self._top_k)
        return [
            {"label": self._labels.name(number + first), "label_id": number + first, "score": score}
            for number, score in zip(best.tolist(), np.round(scores[best].astype(np.float64), 6).tolist())
            if score >= self._threshold
        ]


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest, descending; ties go to the lower index."""
    if scores.size > count:
        # Everything that reaches the count-th largest value, so that ties at the edge are cut in order too.
        candidates = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    else:
        candidates = np.arange(scores.size)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def _is_vector(shape: Sequence[int]) -> bool:
    return 1 < max(shape, default=0) <= _MAX_CLASSES and sum(side != 1 for side in shape) == 1


def _choose(outputs: Sequence[TensorInfo], wanted: Union[int, str, None]) -> int:
    """The index of the output that holds the scores."""
    shapes = ", ".join(f"{index}: {info.name} {list(info.shape)}" for index, info in enumerate(outputs))
    if wanted is None:
        fitting = [index for index, info in enumerate(outputs) if _is_vector(info.shape)]
    elif isinstance(wanted, str):
        fitting = [index for index, info in enumerate(outputs) if info.name == wanted]
    else:
        fitting = [wanted] if 0 <= wanted < len(outputs) else []
    if len(fitting) == 1:
        return fitting[0]
    raise ModelError(
        "outputs-not-recognised",
        f"image classification wants one vector of scores; the network's outputs are {shapes}",
        hint="name it: options.output = an index or a name of these",
    )
