"""Key points alone: where the points of one hand, face or body are, without a box.

These networks look at a crop that another one found, and answer for any picture; how sure they are that there is
something at all is the score, and below ``threshold`` nothing is told.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry, Labels, Network, Prediction, Task, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks import landmarks
from agent.inference.runtime.tasks.activation import finite, sigmoid, within_one

__all__ = ["KeypointDetection"]

_WORDS = ("landmark", "pose", "hand", "mesh")
_OBJECTRON = 224
_MARGIN = 0.5
_MOST_INSIDE = 0.8
_LARGEST_SCORE = 1.001


class KeypointDetection(Task):
    """Options ``decoder`` (a family of ``landmarks.py``), ``threshold`` and ``activation`` of the score."""

    name = "keypoints"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        read = Options(options)
        network = Network(inputs, outputs, labels)
        found = landmarks.find(outputs)
        names = list(dict.fromkeys(family.name for family in landmarks.FAMILIES))
        wanted = read.choice("decoder", "auto", ["auto", *names])
        if found is None or wanted not in ("auto", found.family.name):
            raise ModelError(
                "outputs-not-recognised",
                f"the network has outputs {network}: no points are known with these",
                hint=f"known: {', '.join(f'{family.name}: {family.what}' for family in landmarks.FAMILIES)}",
            )
        self._found, self._family = found, found.family
        self.decoder = found.family.name
        self._threshold = read.number("threshold", 0.5, 0.0, 1.0)
        self._activation = read.choice("activation", found.family.presence or "none", ("none", "sigmoid"))
        read.done()
        self._labels = labels if labels.names else Labels(dict(enumerate(found.family.labels)))
        self._names = ("",) * found.family.first_name + tuple(found.family.names)

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """A known number of points; and what looks like that and is none of these."""
        found = landmarks.find(network.outputs)
        if found is not None:
            text = " ".join(str(network.facts.get(key, "")) for key in ("name", "description")).lower()
            is_named = any(word in text for word in _WORDS) or network.outputs[0].name == found.family.output
            options = {"decoder": found.family.name}
            strength = NAMED if is_named else FITS
            return [Claim(strength, f"its outputs are {found.family.what}", options, found.family.feed)]
        sizes = sorted(landmarks.numbers(info.shape) for info in network.outputs)
        if [info.name for info in network.outputs] == ["output_crop"]:
            why, wrong = "its output is called output_crop", "its 4 numbers are a crop for another network, not points"
        elif sizes == [1, 18] and network.size == (_OBJECTRON, _OBJECTRON):
            why, wrong = (
                "its outputs are as Objectron's",
                "its 9 points are a box in space, whose pose is yet to be solved",
            )
        else:
            return []
        return [Claim(NAMED, why, against=wrong)]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """A presence above 1, points far outside the picture."""
        del strength
        presence = self._presence(outputs)
        if presence is not None and not 0 <= presence <= _LARGEST_SCORE:
            return f"its presence is {presence:.4g}, and none is below 0 or above 1"
        points = self._found.read(outputs, geometry.network_width, geometry.network_height)
        places = finite(np.stack([points["x"], points["y"]], axis=1))
        inside = ((places >= -_MARGIN) & (places <= 1 + _MARGIN)).all(axis=1).mean()
        return f"{1 - inside:.0%} of its points lie outside the picture" if inside < _MOST_INSIDE else ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The points, if there is anything; z is in fractions of the frame's width, towards the camera below 0."""
        presence = self._presence(outputs)
        if presence is not None:
            within_one(np.array([presence]))
            if presence < self._threshold:
                return []
        told: Prediction = {"keypoints": self._points(outputs, geometry)}
        told.update(self._label(outputs))
        if presence is not None:
            told["score"] = round(presence, 6)
        return [told]

    def _presence(self, outputs: Sequence[np.ndarray]) -> Optional[float]:
        if not self._found.flags:
            return None
        raw = finite(np.asarray(outputs[self._found.flags[0]], dtype=np.float64).reshape(1))
        return float((sigmoid(raw) if self._activation == "sigmoid" else raw)[0])

    def _label(self, outputs: Sequence[np.ndarray]) -> Dict[str, Any]:
        """What kind it is, where the family has two: a hand as it looks in a mirror."""
        if not self._family.labels or len(self._found.flags) == 1:
            return {}
        first = float(np.asarray(outputs[self._found.flags[1]]).reshape(-1)[0])
        label_id = 0 if first >= 0.5 else 1  # noqa: PLR2004 - the likelier of two
        return {"label": self._labels.name(label_id), "label_id": label_id}

    def _points(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Dict[str, Any]]:
        columns = self._found.read(outputs, geometry.network_width, geometry.network_height)
        places = boxes.points_to_frame(finite(np.stack([columns["x"], columns["y"]], axis=1)), geometry)
        told: List[Dict[str, Any]] = [{"x": x, "y": y} for x, y in places.tolist()]
        for key, values in self._details(columns, geometry):
            for point, value in zip(told, np.round(values, 6).tolist()):
                if value == value:  # noqa: PLR0124 - no NaN
                    point[key] = value
        for point, name in zip(told, self._names):
            if name:
                point["name"] = name
        return told

    @staticmethod
    def _details(columns: Mapping[str, np.ndarray], geometry: Geometry) -> Iterator[Tuple[str, np.ndarray]]:
        """What is known of the points beside their places; NaN where it is not."""
        if "z" in columns:
            yield "z", columns["z"] * geometry.extent_x
        if "v" in columns:
            yield "score", sigmoid(finite(columns["v"]))
        if "s" in columns:
            within_one(columns["s"])
            yield "score", columns["s"]
