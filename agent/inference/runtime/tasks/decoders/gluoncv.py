"""Detectors of GluonCV (SSD, YOLOv3, CenterNet, Faster R-CNN), as SageMaker Neo compiles them.

Three outputs in this order: ids [1,N,1], scores [1,N,1] and corners [1,N,4] in pixels of the network's picture,
suppressed already; rows of -1 are not used.  Names say nothing (``output0`` …) and are not asked, but where the
numbers say that ids and scores are the other way round, they are.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite
from agent.inference.runtime.tasks.decoders.base import (
    Decoder,
    Network,
    are_boxes,
    are_swapped,
    find,
    in_fractions,
    refuse,
)

__all__ = ["GluonCV"]

_ROLES = 3


class GluonCV(Decoder):
    """Option ``normalized``: whether corners are fractions in place of pixels."""

    name = "gluoncv"
    expects = "ids [1,N,1], scores [1,N,1] and corners [1,N,4]"
    nms = "none"
    sparse = True

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Three outputs of one length."""
        return cls.fits("its outputs are ids, scores and corners") if _places(network) else None

    def __init__(self, network: Network, options: Options) -> None:
        places = _places(network)
        if places is None:
            refuse(self, network)
        self._places = places
        self._normalized = options.flag("normalized")

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """The used rows that reach the threshold."""
        ids, scores, boxes = (np.asarray(outputs[place], dtype=np.float32)[0] for place in self._places)
        ids, scores = finite(ids[:, 0]), finite(scores[:, 0])
        if are_swapped(ids, scores):
            ids, scores = scores, ids
        used = (ids >= 0) & (scores >= 0)
        corners = in_fractions(finite(boxes[used]), self._normalized, geometry)
        reached = scores[used] >= threshold
        return Candidates(corners[reached], scores[used][reached], ids[used][reached].round().astype(np.int64))


def _places(network: Network) -> Optional[Tuple[int, int, int]]:
    """Where ids, scores and corners are; None where the three are not there."""
    boxes = find(network.outputs, are_boxes, ())
    if boxes is None or len(network.outputs) != _ROLES:
        return None
    ids, scores = (place for place in range(_ROLES) if place != boxes)
    column = (*network.outputs[boxes].shape[:2], 1)
    whole = all(tuple(network.outputs[place].shape) == column for place in (ids, scores))
    return (ids, scores, boxes) if whole else None
