"""What is written in a picture of one line: CTC, one column of character scores for each step to the right.

The best character of each step is taken, what repeats without a blank between is one character, blanks fall away
(Graves et al., "Connectionist temporal classification").  PaddleOCR's networks have the blank first, then the
characters of their list, and where more are left, the space.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

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
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, softmax

__all__ = ["TextRecognition"]

_STEPS = 3
_SPARE = range(4)
"""How many columns more than characters: none where the list has the blank, the blank, and the space, twice in some."""
_PICTURES = 4
_HIGHEST = 128
"""Pixels of a line that a network reads; detectors, whose rows look like steps, read more."""
_FEWEST = 11  # ten digits and the blank
_TOLERANCE = 0.02
_FEED = {
    "resize": "height", "width": 320, "height": 48, "place": "top-left", "pad": [127], "color": "BGR",
    "mean": [127.5], "std": [127.5],
}  # fmt: skip
"""PaddleOCR's; a height that the file settles goes before."""


class TextRecognition(Task):
    """One line of writing; options ``threshold`` (of the mean of the characters' scores), ``blank``: first or last."""

    name = "text-recognition"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        del inputs
        read = Options(options)
        self._threshold = read.number("threshold", 0.5, 0.0, 1.0)
        self._blank = read.choice("blank", "first", ("first", "last"))
        read.done()
        place = _place(outputs)
        if place is None:
            shapes = ", ".join(f"{info.name} {list(info.shape)}" for info in outputs)
            raise ModelError(
                "outputs-not-recognised",
                f"text recognition reads one output [1,T,C] of character scores; the network has {shapes}",
                hint="choose another task",
            )
        self._output = place
        if not labels.names:
            raise ModelError(
                "labels-missing",
                "nobody says which characters the network knows",
                hint="name the file of its characters, one in a line: labels = …",
            )
        self._characters = [labels.names.get(number, "") for number in range(max(labels.names) + 1)]
        count = outputs[place].shape[-1]
        if count > 0:
            self._alphabet(count)

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """Steps of scores, for as many characters as there are labels."""
        place = _place(network.outputs)
        alone = len(network.inputs) == len(network.outputs) == 1  # scores beside boxes are a detector's
        if place is None or not alone or _height(network) > _HIGHEST:
            return []
        classes, labels = network.outputs[place].shape[-1], network.label_count
        height = _height(network)
        feed = {**_FEED, "height": height} if height > 0 else _FEED
        if classes < 0 or (labels and classes - labels in _SPARE):
            return [Claim(SAID if labels else FITS, f"it has {labels} characters", input=feed)] if labels else []
        against = "nobody says which characters it knows" if not labels else f"it knows {classes}, not {labels}"
        # What reads a strip of any width is a reader, whatever else its rows look like.
        strength = NAMED if _is_strip(network) else FITS
        return [Claim(strength, f"its output is steps of {classes} scores", input=feed, against=against)]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """Numbers that are not finite."""
        del geometry, strength
        finite(np.asarray(outputs[self._output], np.float32))
        return ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The line, its score (the mean of its characters') and theirs; nothing where there is no writing."""
        del geometry
        steps = finite(np.asarray(outputs[self._output], np.float32))
        steps = _probabilities(steps[0] if steps.shape[0] == 1 else steps[:, 0])
        alphabet, blank = self._alphabet(steps.shape[1])
        best = steps.argmax(axis=1)
        starts = np.append(True, best[1:] != best[:-1]) & (best != blank)
        scores = np.round(steps[starts, best[starts]].astype(np.float64), 6).tolist()
        text = "".join(alphabet[number] for number in best[starts].tolist())
        score = sum(scores) / len(scores) if scores else 0.0
        if not text or score < self._threshold:
            return []
        prediction: Prediction = {"text": text, "score": round(score, 6)}
        if len(scores) == len(text):  # some networks know characters of several code points
            prediction["character_scores"] = scores
        return [prediction]

    def _alphabet(self, count: int) -> Tuple[List[str], int]:
        """The characters of the columns, and which one is the blank."""
        spare = count - len(self._characters)
        if spare not in _SPARE:
            raise ModelError(
                "labels-count-wrong",
                f"the network knows {count} characters with the blank, and the labels are {len(self._characters)}",
                hint="name the list of characters that it was trained with: labels = …",
            )
        space = [" "] * (spare - 1)
        characters = [*self._characters, *space]
        if spare == 0:
            return characters, 0 if self._blank == "first" else count - 1
        return (["", *characters], 0) if self._blank == "first" else ([*characters, ""], count - 1)


def _place(outputs: Sequence[TensorInfo]) -> Optional[int]:
    fitting = [place for place, info in enumerate(outputs) if _are_steps(info.shape)]
    return fitting[0] if len(fitting) == 1 else None


def _are_steps(shape: Sequence[int]) -> bool:
    """[1, T, C] or, of PyTorch's networks, [T, 1, C]."""
    return len(shape) == _STEPS and (shape[-1] >= _FEWEST or shape[-1] == -1) and (shape[0] in (1, -1) or shape[1] == 1)


def _is_strip(network: Network) -> bool:
    shape = network.inputs[0].shape
    return len(shape) == _PICTURES and _height(network) > 0 and -1 in shape[2:]


def _height(network: Network) -> int:
    """Of the picture that the network reads; -1 where the file leaves it open."""
    shape = network.inputs[0].shape
    if len(shape) != _PICTURES:
        return -1
    return shape[2] if shape[1] in (1, 3) else shape[1]


def _probabilities(steps: np.ndarray) -> np.ndarray:
    """Rows [T, C] that are probabilities already as they are, others through softmax."""
    sums = steps.sum(axis=1)
    ready = steps.min() >= 0 and bool((np.abs(sums - 1) <= _TOLERANCE).all())
    return steps if ready else softmax(steps)
