"""Detection transformers: a fixed number of queries, each with class logits and one box."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Geometry
from agent.inference.runtime.boxes import Candidates, from_centres
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, softmax
from agent.inference.runtime.tasks.decoders.base import Decoder, Network, are_boxes, are_rows, find, refuse, strongest

__all__ = ["Detr"]

_MOST_QUERIES = 900


class Detr(Decoder):
    """Option ``activation``: softmax (the last class means "no object") or sigmoid (every class is one)."""

    name = "detr"
    expects = "class logits [1,N,C+1] and boxes [1,N,4] (centre, size) of N queries"
    threshold = 0.5
    nms = "none"

    @classmethod
    def recognises(cls, network: Network, options: Options) -> bool:
        """Boxes and logits of a moderate number of queries; further outputs only beside logits named so."""
        places = _outputs(network)
        if places is None or "anchors" in options:
            return False
        named = "logit" in network.outputs[places[1]].name.lower()
        return (named or not network.outputs[2:]) and network.outputs[places[0]].shape[1] <= _MOST_QUERIES

    def __init__(self, network: Network, options: Options) -> None:
        places = _outputs(network)
        if places is None:
            refuse(self, network)
        self._boxes, self._logits = places
        self._activation = options.choice("activation", "softmax", ("softmax", "sigmoid"))
        if self._activation == "softmax" and network.outputs[self._logits].shape[2] == 1:
            refuse(self, f"{network}, of which nothing remains without the last class")

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The queries that have an object."""
        del geometry
        logits = np.asarray(outputs[self._logits], dtype=np.float32)[0]
        if self._activation == "softmax":
            rows, scores, columns = strongest(softmax(logits)[:, :-1], threshold)
        else:
            rows, scores, columns = strongest(logits, threshold, "sigmoid")
        boxes = finite(np.asarray(outputs[self._boxes], dtype=np.float32)[0][rows])
        return Candidates(from_centres(*boxes.T), scores, columns)


def _outputs(network: Network) -> Optional[Tuple[int, int]]:
    """(boxes, logits); None where they cannot be distinguished."""
    boxes = find(network.outputs, are_boxes, ("box",))
    if boxes is None:
        return None
    rows = network.outputs[boxes].shape[:2]
    logits = find(network.outputs, lambda shape: are_rows(shape) and shape[:2] == rows, ("logit", "class"), (boxes,))
    return None if logits is None else (boxes, logits)
