"""Image classification: one vector of scores per frame.

``activation = "auto"`` looks at the numbers of each run: probabilities (all in [0, 1], sum 1) are taken
as they are, and so is a tensor quantised as only probabilities are; anything else passes through softmax.
A network whose classes are independent of each other (several may be true at once) needs
``activation = "sigmoid"`` or ``"none"`` said.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Union

import numpy as np

from agent.inference.runtime.base import (
    FITS,
    NAMED,
    SAID,
    Claim,
    Geometry,
    Labels,
    Network,
    Prediction,
    Task,
    TensorInfo,
)
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.labels import shift
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import (
    ACTIVATIONS,
    finite,
    is_distribution,
    no_scores,
    probabilities,
    within_one,
)

__all__ = ["ImageClassification"]

_MAX_CLASSES = 1_000_000
_SAID = ("classify", "image-classification")
_ULTRALYTICS = {"resize": "crop", "color": "RGB", "mean": [0.0], "std": [255.0]}
"""Its middle, as large as it fits, and the colours from 0 to 1."""
_WORDS = ("logit", "prob", "softmax", "class", "score")
_ANGLES = ["0", "180"]
_PADDLE = ("save_infer_model", "softmax_", "fetch_name")
_LINE = {"width": 192, "height": 48, "resize": "stretch", "color": "BGR", "mean": [127.5], "std": [127.5]}
"""How PaddleOCR shows its network a line, of which it says whether it stands upside down."""
_SIDE = 224
"""What a classifier is given that takes pictures of any size."""
_USUAL = (1000, 1001, 21_841, 21_843)

# TFLite fixes the quantisation of softmax and sigmoid outputs; 8 bits cannot hold a flat distribution's sum.
_PROBABILITY_SCALE = 1 / 256


class ImageClassification(Task):
    """The best classes of a frame.

    Options ``top_k``, ``threshold``, ``activation``, ``background``, ``output``, and ``names`` of the classes where
    there are no labels.
    """

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
        names = read.words("names", ())
        self._labels = labels if labels.names else Labels(dict(enumerate(names)))
        self._top_k = read.integer("top_k", 5, 1, 1000)
        self._threshold = read.number("threshold", 0.0, 0.0, 1.0)
        self._activation = read.choice("activation", "auto", ACTIVATIONS)
        self._background = read.flag("background")
        self._output = _choose(outputs, read.tensor("output"))
        self._columns = 0
        self._skip, self._first = 0, 0
        read.done()
        self._is_batched = outputs[self._output].shape[:1] == (-1,)
        if self._activation == "auto" and outputs[self._output].scale == _PROBABILITY_SCALE:
            self._activation = "none"

    @classmethod
    def recognises(cls, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """One output, one vector: [1,C], [C], [1,1,1,C] or [1,C,1,1]."""
        del inputs
        return len(outputs) == 1 and _is_vector(outputs[0].shape)

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """A vector of scores: said by the metadata, or as long as the labels, or named so, or a vector at least."""
        if not cls.recognises(network.inputs, network.outputs):
            return []
        output, said = network.outputs[0], network.facts.get("task")
        classes, labels = max(output.shape), network.label_count
        evidence = (
            (SAID, said in _SAID, f"its metadata says {said}"),
            (SAID, labels and abs(labels - classes) <= 1, f"it has {classes} scores and {labels} labels"),
            (NAMED, output.scale == _PROBABILITY_SCALE, "its output is quantised as probabilities are"),
            (NAMED, any(word in output.name.lower() for word in _WORDS), f"its output is called {output.name}"),
            (NAMED, classes in _USUAL, f"it has {classes} scores, as networks trained on ImageNet have"),
            (FITS, True, "its output is one vector"),
        )
        strength, why = next((strength, why) for strength, holds, why in evidence if holds)
        if network.size is None and classes == len(_ANGLES) and any(word in output.name for word in _PADDLE):
            return [Claim(NAMED, "it has two scores, as PaddleOCR's angle of a line has", {"names": _ANGLES}, _LINE)]
        fed = _ULTRALYTICS if said == _SAID[0] else {}
        against = no_scores(output.name) if strength == FITS else ""
        feed = fed if network.size else {**fed, "width": _SIDE, "height": _SIDE}
        return [Claim(strength, why, input=feed, against=against)]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """Numbers that are no probabilities, where nothing but the shape says that they are scores."""
        del geometry
        rows = outputs[self._output].shape[0] if self._is_batched else 1
        if rows != 1:
            return f"it answers one picture with {rows} rows"
        values = finite(np.asarray(outputs[self._output], dtype=np.float32).reshape(-1))
        if strength == FITS and not is_distribution(values):
            return f"its {values.size} numbers are no probabilities, and nothing names them scores"
        return ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The ``top_k`` classes from ``threshold`` on, best first; equal scores in the order of the classes."""
        del geometry
        values = finite(np.asarray(outputs[self._output], dtype=np.float32).reshape(-1))
        scores = probabilities(values, self._activation)
        within_one(scores)
        self._lay_labels(scores.size)
        best = self._skip + _largest(scores[self._skip :], self._top_k)
        return [
            {"label": self._labels.name(label_id), "label_id": label_id, "score": score}
            for label_id, score in zip(
                (best + self._first).tolist(), np.round(np.minimum(scores[best].astype(np.float64), 1.0), 6).tolist()
            )
            if score >= self._threshold
        ]

    def _lay_labels(self, columns: int) -> None:
        """Lay the labels beside the network's columns, once their number is known: at the latest by the warm-up."""
        if columns != self._columns:
            self._skip, self._first = shift(self._labels, columns, self._background)
            self._columns = columns


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest, descending; ties go to the lower index."""
    if scores.size > count:
        # Everything that reaches the count-th largest value, so that ties at the edge are cut in order too.
        candidates = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    else:
        candidates = np.arange(scores.size)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def _is_vector(shape: Sequence[int]) -> bool:
    """[1,C] and the like; an open batch counts as one picture."""
    sides = shape[1:] if len(shape) > 1 and shape[0] == -1 else shape
    return 1 < max(sides, default=0) <= _MAX_CLASSES and sum(side != 1 for side in sides) == 1


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
