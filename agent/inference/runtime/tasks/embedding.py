"""A picture as a vector, and the nearest of those that are known.

Two vectors are as alike as the cosine of the angle between them says.  What is known comes from a gallery
(``gallery.py``): pictures by name, seen by this same network when it was loaded.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import (
    FITS,
    NAMED,
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
from agent.inference.runtime.tasks.activation import finite

__all__ = ["ImageEmbedding"]

_LEAST, _MOST = 32, 8192
_WORDS = ("embed", "feature", "descriptor")
"""Not ``fc1``, MXNet's word for the last layer of any network: InsightFace calls its points so, too."""
_FACES = (128, 192, 256, 512)
_FACE = (112, 112)
_FEED = {"color": "RGB", "mean": [127.5], "std": [127.5]}
"""ArcFace's and that of its kin."""
_TOLERANCE = 0.01


class ImageEmbedding(Task):
    """One vector; options ``normalize`` (to length 1, which is usual) and ``least`` (a cosine that is near enough)."""

    name = "embedding"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        del labels, inputs
        read = Options(options)
        self._normalize = read.flag("normalize") is not False
        self._least = read.number("least", 0.4, -1.0, 1.0)
        wanted = read.tensor("output")
        read.done()
        self._output = _chosen(outputs, wanted)
        self._names: Sequence[str] = ()
        self._known = np.zeros((0, 0), np.float32)

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """A vector that is called so; or as long as those of faces, of a picture as large as aligned ones."""
        if len(network.outputs) != 1 or not _is_vector(network.outputs[0].shape):
            return []
        name, size = network.outputs[0].name, network.outputs[0].shape[-1]
        feed = _FEED if network.size == _FACE else {}
        if any(word in name.lower() for word in _WORDS):
            return [Claim(NAMED, f"its output is called {name}", input=feed)]
        if network.size == _FACE and size in _FACES:
            return [Claim(NAMED, f"it has {size} numbers for an aligned face of 112 × 112", input=feed)]
        return [Claim(FITS, f"its output is a vector of {size} numbers")]

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """A vector whose length is not 1, where nothing but its shape says what it is."""
        del geometry
        length = _length(self._vector(outputs))
        if length == 0:
            return "its vector is all zero"
        if strength == FITS and abs(length - 1) > _TOLERANCE:
            return f"its vector has the length {length:.4g}, and nothing names it an embedding"
        return ""

    def learn(self, names: Sequence[str], vectors: Sequence[np.ndarray]) -> None:
        """What is known from here on: a name for each vector."""
        known = np.array(vectors, np.float32).reshape(len(names), -1)
        self._known = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        self._names = list(names)

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The vector, and with a gallery how alike the nearest is, with its name where that is near enough."""
        del geometry
        vector = self._vector(outputs)
        length = _length(vector)
        unit = (vector / np.float64(length)).astype(np.float32) if length > 0 else vector
        prediction: Prediction = {"vector": unit if self._normalize else vector}
        if len(self._names):
            cosines = self._known @ unit
            best = int(cosines.argmax())
            prediction["similarity"] = round(float(cosines[best]), 6)
            if cosines[best] >= self._least:
                prediction["name"] = self._names[best]
        return [prediction]

    def _vector(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        return finite(np.asarray(outputs[self._output], np.float32).reshape(-1))


def _length(vector: np.ndarray) -> float:
    """In double precision: the squares of large numbers are none in single."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def _is_vector(shape: Tuple[int, ...]) -> bool:
    """[1, N], or [1, N, 1, 1] and the like."""
    sides = [side for side in shape[1:] if side != 1]
    return len(shape) > 1 and shape[0] in (1, -1) and len(sides) == 1 and _LEAST <= sides[0] <= _MOST


def _chosen(outputs: Sequence[TensorInfo], wanted: object) -> int:
    fitting = [
        place
        for place, info in enumerate(outputs)
        if (_is_vector(tuple(info.shape)) if wanted is None else wanted in (place, info.name))
    ]
    if len(fitting) == 1:
        return fitting[0]
    shapes = ", ".join(f"{place}: {info.name} {list(info.shape)}" for place, info in enumerate(outputs))
    raise ModelError(
        "outputs-not-recognised",
        f"an embedding is one vector; the network's outputs are {shapes}",
        hint="name it: options.output = an index or a name of these",
    )
