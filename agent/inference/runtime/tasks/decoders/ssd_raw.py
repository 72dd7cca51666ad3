"""Single-shot detectors cut off before their post-processing: encoded boxes and class scores per anchor."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import anchors
from agent.inference.runtime.base import Claim, Geometry
from agent.inference.runtime.boxes import Candidates
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.labels import shift
from agent.inference.runtime.options import Options
from agent.inference.runtime.tasks.activation import finite, softmax
from agent.inference.runtime.tasks.decoders.base import (
    CORNERS,
    Decoder,
    Network,
    are_boxes,
    are_rows,
    find,
    refuse,
    strongest,
)

__all__ = ["SsdRaw"]

_MOST_QUERIES = 900  # what transformers ask; an SSD has more anchors than that


class SsdRaw(Decoder):
    """Options ``anchors``, ``coder``, ``activation``, ``background``."""

    name = "ssd-raw"
    expects = "box encodings [1,N,4] and class scores [1,N,C] of N anchors"

    @classmethod
    def claim(cls, network: Network) -> Optional[Claim]:
        """Boxes and scores alone, with anchors said, telling names, or more rows than a transformer has."""
        places = _outputs(network)
        if places is None or network.outputs[2:]:
            return None
        named = any("encoding" in info.name.lower() or "raw" in info.name.lower() for info in network.outputs)
        if "anchors" in network.options or named or network.outputs[places[0]].shape[1] > _MOST_QUERIES:
            return cls.fits("its outputs are boxes and scores of many anchors")
        return None

    def __init__(self, network: Network, options: Options) -> None:
        places = _outputs(network)
        if places is None:
            refuse(self, network)
        self._boxes, self._scores = places
        _, count, classes = network.outputs[self._scores].shape
        self._activation = options.choice("activation", "sigmoid", ("sigmoid", "softmax", "none"))
        background = options.flag("background")
        if background is None and network.label_count == classes - 1:
            background = True  # these networks have one; here labels without it are the rule
        self._skip, self._first = shift(network.labels, classes, background)
        if classes <= self._skip:
            refuse(self, f"{network}, of which nothing remains without the background")
        self._coder = options.table("coder").numbers("scale", (10.0, 10.0, 5.0, 5.0), 0.0, 4)
        self._anchors = _anchors(network, options.table("anchors"))
        if len(self._anchors) != count:
            raise ModelError(
                "anchors-do-not-fit",
                f"the network answers for {count} anchors, options.anchors describe {len(self._anchors)}",
                hint="set maps, ratios, reduce_lowest and interpolated as the network was trained",
            )

    def candidates(self, outputs: Sequence[np.ndarray], geometry: Geometry, threshold: float) -> Candidates:
        """Scores first; boxes are decoded for the survivors alone."""
        del geometry
        scores = np.asarray(outputs[self._scores], dtype=np.float32)[0]
        if self._activation == "softmax":
            scores = softmax(scores)
        rows, reached, columns = strongest(scores[:, self._skip :], threshold, self._activation)
        encodings = finite(np.asarray(outputs[self._boxes], dtype=np.float32).reshape(-1, CORNERS)[rows])
        boxes = anchors.decode(encodings, self._anchors[rows], self._coder)
        return Candidates(boxes, reached, columns + self._skip + self._first)


def _outputs(network: Network) -> Optional[Tuple[int, int]]:
    """(boxes, scores); None where they cannot be distinguished.  Some exports give the boxes as [1,N,1,4]."""
    boxes = find(
        network.outputs, lambda shape: are_boxes(shape) or are_boxes((*shape[:2], *shape[3:])), ("box", "loc", "reg")
    )
    if boxes is None:
        return None
    rows = network.outputs[boxes].shape[:2]
    scores = find(network.outputs, lambda shape: are_rows(shape) and shape[:2] == rows, ("class", "score"), (boxes,))
    return None if scores is None else (boxes, scores)


def _anchors(network: Network, options: Options) -> np.ndarray:
    height, width = network.size or (1, 1)
    reduce_lowest, interpolated = options.flag("reduce_lowest"), options.flag("interpolated")
    return anchors.ssd(
        options.sizes("maps", anchors.maps(height, width)),
        min_scale=options.number("min_scale", 0.2, 0.001, 2.0),
        max_scale=options.number("max_scale", 0.95, 0.001, 2.0),
        ratios=options.numbers("ratios", (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0), 0.0),
        reduce_lowest=reduce_lowest is not False,
        interpolated=interpolated is not False,
        aspect=width / height,
    )
