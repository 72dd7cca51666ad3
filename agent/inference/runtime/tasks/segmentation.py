"""Semantic segmentation: which part of the frame belongs to which class, one prediction for each class that is there.

================  ===================================================  ================================================
decoder           output                                               a pixel belongs to
================  ===================================================  ================================================
``class-scores``  [1,C,H,W] or [1,H,W,C]: logits or probabilities      its likeliest class
``class-ids``     whole numbers [1,H,W], [1,1,H,W] or [1,H,W,1]        the class of that number
``mask``          one plane [1,H,W], [1,1,H,W] or [1,H,W,1]            the one class, from ``threshold`` on
================  ===================================================  ================================================

Further outputs of the same classes, which training or refinement left, are not read.  Masks keep the network's
resolution; ``score`` is the mean probability within a mask, and numbers alone have none.

Where nothing is named, planes are believed that are as large as the network's picture, and numbers that can hardly be
anything else: probabilities, of several classes adding up to 1, or logits, whose sign goes both ways.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

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
from agent.inference.runtime.labels import BACKGROUND
from agent.inference.runtime.options import Options
from agent.inference.runtime.planes import covering
from agent.inference.runtime.tasks import dense
from agent.inference.runtime.tasks.activation import finite, no_scores, sigmoid, within_one
from agent.inference.runtime.tasks.dense import Dense

__all__ = ["SemanticSegmentation"]

_SCORES, _IDS, _MASK = "class-scores", "class-ids", "mask"
_SAID = ("semantic-segmentation", "image-segmentation", "semantic_segmentation", "segmentation")
_NAMES = ("seg", "mask", "selfie", "argmax")
_OTHERS = ("anomaly", "depth", "disparity", "alpha", "matte", "matting")
"""What names other tasks' planes."""
_MOST_ID = (1 << 15) - 1
_SAMPLE = 8
_TOLERANCE = 0.01
_COLOURS = 3
_PYTORCH = ({"out"}, {"out", "aux"})
"""How torchvision calls its outputs."""
_SELFIE = ({"activation_10"}, {"segment_back"})
"""How MediaPipe's selfie segmentation calls its output: the square one, and the landscape."""
_UNIT: Mapping[str, Any] = {"color": "RGB", "mean": [0.0], "std": [255.0]}
_U2NET = 7
"""Planes that U²-Net answers: the whole, and that of each of its six stages."""


class SemanticSegmentation(Task):
    """Options ``decoder``, ``threshold``, ``activation``, ``background`` (whether class 0 is one; it is left out)."""

    name = "segmentation"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        read = Options(options)
        network = Network(inputs, outputs, labels)
        found = dense.find(network)
        wanted = read.choice("decoder", "auto", ("auto", _SCORES, _IDS, _MASK))
        if found is None or wanted not in ("auto", _decoder(found)):
            raise ModelError(
                "outputs-not-recognised",
                f"segmentation wants a number for each pixel; the network has outputs {network}",
                hint="export the model with one output [1,C,H,W], [1,H,W,C] or [1,H,W]",
            )
        self._found, self.decoder = found, _decoder(found)
        self._threshold = read.number("threshold", 0.5, 0.0, 1.0)
        self._activation = read.choice("activation", "auto", ("auto", "none", "softmax", "sigmoid"))
        background = read.flag("background")
        read.done()
        self._label_count = network.label_count
        self._first = int(self.decoder == _MASK and labels.names.get(0, "").lower() in BACKGROUND)
        is_unnamed = self.decoder == _MASK and not labels.names
        self._labels = Labels({0: "foreground"}) if is_unnamed else labels
        told = labels.names.get(0, "").lower() in BACKGROUND if background is None else background
        self._background = self.decoder != _MASK and told

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """Numbers for each pixel that metadata or a name speak for, or as many of them as pixels."""
        found, text = dense.find(network), dense.words(network)
        if found is None or any(word in text for word in _OTHERS):
            return []
        named = next((word for word in _NAMES if word in text), "")
        said = network.facts.get("task")
        evidence = (
            (SAID, said in _SAID, f"its metadata says {said}"),
            (NAMED, named, f"its names say {named}, and it has numbers for each pixel"),
            (NAMED, found.classes > 1 and found.classes == network.label_count, "it has a plane for each label"),
            (NAMED, found.classes > 1 and "logits" in text, "its logits are planes"),
            (NAMED, _is_selfie(network), "its output is called as in MediaPipe's selfie segmentation"),
            (FITS, found.is_as_large(network.size), f"it has {_count(found.classes)} for each pixel"),
        )
        strength, why = next(((strength, why) for strength, holds, why in evidence if holds), (0, ""))
        against = next(filter(None, (no_scores(info.name) for info in network.outputs)), "") if strength == FITS else ""
        return [Claim(strength, why, {"decoder": _decoder(found)}, _feed(network), against)] if strength else []

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """Classes beyond the labels; planes of another size and numbers of another meaning, where nothing is named."""
        values = self._found.read(outputs)
        if self.decoder == _IDS:
            return self._doubt_of_ids(values)
        sample = finite(_sampled(values).astype(np.float32))
        size = (geometry.network_height, geometry.network_width)
        if strength == FITS and values.shape[-2:] != size:
            return f"it answers {values.shape[-1]} × {values.shape[-2]} places for a picture of {size[1]} × {size[0]}"
        if self._label_count > 1 and self._found.classes > self._label_count:
            return f"it has {self._found.classes} classes and {self._label_count} labels"
        if strength > FITS or self._activation != "auto":
            return ""
        return _doubt_of_numbers(sample)

    def _doubt_of_ids(self, values: np.ndarray) -> str:
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < 0 or high >= _MOST_ID:
            return f"its numbers go from {low} to {high}, and are no classes"
        if self._label_count and high >= self._label_count:
            return f"class {high} is beyond its {self._label_count} labels"
        return ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The classes that are there, the largest first; ``area`` is the share of the frame."""
        values = self._found.read(outputs)
        if self.decoder == _MASK:
            classes = self._one(finite(values.astype(np.float32)), geometry)
        elif self.decoder == _IDS:
            classes = self._split(values, geometry, None)
        else:
            classes = self._likeliest(finite(values.astype(np.float32)), geometry)
        told: List[Prediction] = []
        for label_id, mask, score in classes:
            area = float(mask.mean())
            if not area or (self._background and label_id == 0):
                continue
            one: Prediction = {"label": self._labels.name(label_id), "label_id": label_id}
            if score is not None:
                one["score"] = round(score, 6)
            told.append({**one, "area": round(area, 6), "mask": mask})
        return sorted(told, key=lambda one: -float(one["area"]))

    def _one(self, values: np.ndarray, geometry: Geometry) -> Iterator[Tuple[int, np.ndarray, Optional[float]]]:
        """The one class, by its probability."""
        is_logit = values.min(initial=0.0) < 0 or values.max(initial=0.0) > 1 + _TOLERANCE
        use_sigmoid = self._activation == "sigmoid" or (self._activation == "auto" and is_logit)
        likely = covering(sigmoid(values) if use_sigmoid else values, geometry)
        within_one(likely)
        mask = likely >= max(self._threshold, np.finfo(np.float32).tiny)
        if mask.any():
            yield self._first, mask, float(likely[mask].mean())

    def _likeliest(self, values: np.ndarray, geometry: Geometry) -> Iterator[Tuple[int, np.ndarray, Optional[float]]]:
        if self._activation == "sigmoid":  # each class may be true beside others
            for number, plane in enumerate(sigmoid(values)):
                likely = covering(plane, geometry)
                mask = likely >= self._threshold
                yield number, mask, float(likely[mask].mean()) if mask.any() else None
            return
        is_done = self._activation == "none" or (self._activation == "auto" and _is_distribution(_sampled(values)))
        best = values.argmax(axis=0)
        if is_done:
            likely = values.max(axis=0)
            within_one(likely)
        else:
            likely = 1 / np.exp(values - values.max(axis=0)).sum(axis=0)
        yield from self._split(best, geometry, likely)

    @staticmethod
    def _split(
        ids: np.ndarray, geometry: Geometry, likely: Optional[np.ndarray]
    ) -> Iterator[Tuple[int, np.ndarray, Optional[float]]]:
        """Each class that is there: its mask, and how likely it is in it."""
        shifted = covering((ids + 1).astype(np.int16), geometry)  # 0 is left for what the network did not see
        scores = None if likely is None else covering(likely, geometry)
        counts = np.bincount(shifted[shifted > 0])
        for number in np.flatnonzero(counts).tolist():
            mask = shifted == number
            yield number - 1, mask, None if scores is None else float(scores[mask].mean())


def _decoder(found: Dense) -> str:
    if found.classes > 1:
        return _SCORES
    return _IDS if found.is_whole else _MASK


def _count(classes: int) -> str:
    return "one number" if classes == 1 else f"{classes} numbers"


def _is_selfie(network: Network) -> bool:
    return {info.name for info in network.outputs} in _SELFIE


def _feed(network: Network) -> Mapping[str, Any]:
    """As MediaPipe feeds it; or ImageNet's, of torchvision's and Transformers' exports and of U²-Net."""
    names = {info.name for info in network.outputs}
    if _is_selfie(network):
        return _UNIT
    is_transformer = network.inputs[0].name == "pixel_values" and "logits" in names
    return dense.IMAGENET if names in _PYTORCH or is_transformer or len(names) == _U2NET else {}


def _sampled(values: np.ndarray) -> np.ndarray:
    """Some of the pixels: what the numbers are is seen from these."""
    return values[..., ::_SAMPLE, ::_SAMPLE]


def _is_distribution(values: np.ndarray) -> bool:
    """Whether the classes' numbers of each pixel are probabilities of which one is true."""
    return bool(values.min() >= 0 and np.abs(values.sum(axis=0) - 1).max() <= _TOLERANCE)


def _doubt_of_numbers(sample: np.ndarray) -> str:
    low, high = float(sample.min()), float(sample.max())
    if sample.ndim == 2:  # noqa: PLR2004 - one plane
        if low >= 0 and high <= 1 + _TOLERANCE:
            return ""
        return f"its numbers go from {low:.4g} to {high:.4g}, are no probabilities, and nothing names them a mask"
    if _is_distribution(sample):
        return ""
    if len(sample) == _COLOURS and (low >= 0 or max(-low, high) <= 1 + _TOLERANCE):
        return "its 3 planes may be a picture, and nothing names them classes"
    return "" if low < 0 < high else "its numbers are neither probabilities nor logits, and nothing names them classes"
