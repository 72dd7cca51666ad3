"""Both heads of an inspection network: classes of the whole picture, and a class for each of its places.

One output is a vector of scores, another has numbers for each pixel.  Each is read as a network with that output alone
would be; where several outputs fit, or none by its shape, ``scores`` and ``planes`` name them.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Union

import numpy as np

from agent.inference.runtime.base import Claim, Geometry, Labels, Network, Prediction, Task, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks import dense
from agent.inference.runtime.tasks.classification import ImageClassification
from agent.inference.runtime.tasks.segmentation import SemanticSegmentation

__all__ = ["BothHeads"]


class BothHeads(Task):
    """Options ``names`` (of the whole picture's classes), ``scores`` and ``planes``; labels are those of the places."""

    name = "inspection"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        read = Options(options)
        names = read.words("names", ())
        vectors = [place for place, info in enumerate(outputs) if ImageClassification.recognises(inputs, [info])]
        planes = [place for place, info in enumerate(outputs) if dense.find(Network(inputs, [info], labels))]
        self._scores = _chosen(read.tensor("scores"), vectors, outputs, "scores")
        self._planes = _chosen(read.tensor("planes"), planes, outputs, "planes")
        read.done()
        self._whole = ImageClassification({"names": names}, Labels(), inputs, [outputs[self._scores]])
        self._places = SemanticSegmentation({}, labels, inputs, [outputs[self._planes]])

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """None: it is taken where a manifest names it."""
        del network
        return []

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The classes of the whole picture, best first, and then those that are there, the largest first."""
        whole = self._whole.predictions([outputs[self._scores]], geometry)
        return [*whole, *self._places.predictions([outputs[self._planes]], geometry)]


def _chosen(told: Union[int, str, None], fitting: Sequence[int], outputs: Sequence[TensorInfo], key: str) -> int:
    """The place of an output; raises ``ModelError`` where it is not known which one."""
    found: Optional[int] = fitting[0] if len(fitting) == 1 else None
    if told is not None:
        named = (place for place, info in enumerate(outputs) if told in (place, info.name))
        found = next(named, None)
    if found is None:
        shapes = ", ".join(f"{place}: {info.name} {list(info.shape)}" for place, info in enumerate(outputs))
        hint = f"name it: options.{key} = an index or a name of these"
        raise ModelError("outputs-not-recognised", f"which output are the {key}? the network has {shapes}", hint)
    return found
