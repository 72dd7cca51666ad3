"""Whether a picture is unlike those that the network was trained with, how unlike, and where.

Anomalib's exports answer a map, a score, or both; newer ones scaled already so that 0.5 is the threshold.  What is not
scaled is, by the figures that Anomalib writes beside or into a model: ``(x - threshold) / scale + 0.5``, cut to 0 … 1;
``scale`` is the largest value less the smallest of its validation.  A network with a map alone has the map's largest
value as its score.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from agent.inference.runtime.base import (
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
from agent.inference.runtime.planes import covering
from agent.inference.runtime.tasks.activation import finite

__all__ = ["AnomalyDetection"]

_MIDDLE = 0.5
_PLANE = 2
_IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
_MAPS, _SCORES = ("anomaly_map", "heatmap"), ("pred_score", "anomaly_score")
_ROUNDING = 1e-3


class AnomalyDetection(Task):
    """A verdict for each frame.

    Options: ``threshold`` (of the published score, 0.5), ``image_threshold``, ``pixel_threshold``, ``scale`` and
    ``pixel_scale`` where the network's own numbers are not scaled, ``map`` (false leaves the map out).
    """

    name = "anomaly-detection"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        del labels, inputs
        read = Options(options)
        self._threshold = read.number("threshold", _MIDDLE, 0.0, 1.0)
        self._image = read.number("image_threshold", _MIDDLE, -1e9, 1e9)
        self._pixel = read.number("pixel_threshold", self._image, -1e9, 1e9)
        self._scale = read.number("scale", 1.0, 1e-9, 1e9)
        self._pixel_scale = read.number("pixel_scale", self._scale, 1e-9, 1e9)
        self._with_map = read.flag("map") is not False
        read.done()
        places = _places(outputs)
        if not places:
            shapes = ", ".join(f"{info.name} {list(info.shape)}" for info in outputs)
            raise ModelError(
                "outputs-not-recognised",
                f"anomaly detection reads a map [1,1,H,W], a score [1] or both; the network has {shapes}",
                hint="choose another task",
            )
        self._places = places

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """Outputs with Anomalib's names, or its figures in the metadata."""
        places, names = _places(network.outputs), [info.name.lower() for info in network.outputs]
        figures = network.facts.get("anomaly") or {}
        if not places or not (figures or any(word in name for name in names for word in (*_MAPS, *_SCORES))):
            return []
        # What scales its own scores prepares its own picture, too.
        feed = {} if len(places) > 1 else _IMAGENET
        if figures:
            return [Claim(SAID, "its metadata has the thresholds of an anomaly", figures, feed)]
        return [Claim(NAMED, f"its outputs are called {', '.join(info.name for info in network.outputs)}", {}, feed)]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """A score that is not scaled, where nobody says how."""
        del geometry, strength
        score = self._raw(outputs)
        scaled = (self._image, self._scale) == (_MIDDLE, 1.0)
        if scaled and not -_ROUNDING <= score <= 1 + _ROUNDING:
            return f"its score is {score:.4g}, and options.image_threshold and options.scale do not say what that means"
        return ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """One verdict, with the map where there is one."""
        score = round(float(np.clip((self._raw(outputs) - self._image) / self._scale + _MIDDLE, 0.0, 1.0)), 6)
        prediction: Prediction = {
            "anomalous": score >= self._threshold,
            "score": score,
            "threshold": self._threshold,
        }
        plane = self._plane(outputs)
        if plane is not None and self._with_map:
            scaled = np.clip((plane - self._pixel) / self._pixel_scale + _MIDDLE, 0.0, 1.0)
            levels = np.rint(scaled * 255).astype(np.uint8)
            prediction["map"] = covering(levels, geometry)
        return [prediction]

    def _raw(self, outputs: Sequence[np.ndarray]) -> float:
        if "score" in self._places:
            return float(finite(np.asarray(outputs[self._places["score"]], np.float32).reshape(-1))[0])
        plane = self._plane(outputs)
        return float(plane.max()) if plane is not None else 0.0

    def _plane(self, outputs: Sequence[np.ndarray]) -> Optional[np.ndarray]:
        if "map" not in self._places:
            return None
        plane = finite(np.asarray(outputs[self._places["map"]], np.float32))
        return plane.reshape([side for side in plane.shape if side != 1][-_PLANE:])


def _places(outputs: Sequence[TensorInfo]) -> Dict[str, int]:
    """Where map and score are, by name where several would fit by shape."""
    found: Dict[str, int] = {}
    for key, fits, words in (("map", _is_map, _MAPS), ("score", _is_score, _SCORES)):
        fitting = [place for place, info in enumerate(outputs) if fits(info)]
        if len(fitting) > 1:
            fitting = [place for place in fitting if any(word in outputs[place].name.lower() for word in words)]
        if len(fitting) == 1:
            found[key] = fitting[0]
    return found


def _is_map(info: TensorInfo) -> bool:
    sides = [side for side in info.shape[1:] if side != 1]
    return len(sides) == _PLANE and info.kind == "f"


def _is_score(info: TensorInfo) -> bool:
    return all(side in (1, -1) for side in info.shape) and info.kind == "f"
