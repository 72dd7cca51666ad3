"""The kinds of predictions: what both sides of the worker's socket agree on.

==================  ===================  ============================================================================
kind                its own key          what else it has
==================  ===================  ============================================================================
``classification``                       ``label``, ``label_id``, ``score``
``detection``       ``box``              the same; perhaps ``mask``, ``keypoints``, ``corners``, ``angle``,
                                         ``track_id``, ``parts``
``segmentation``    ``mask``             ``label``, ``label_id``; perhaps ``score`` and ``area``
``keypoints``       ``keypoints``        perhaps ``label``, ``label_id``, ``score``
``anomaly``         ``anomalous``        ``score``; perhaps ``threshold`` and ``map``
``text``            ``text``             perhaps ``score``, ``box``, ``corners``, ``character_scores``
``embedding``       ``vector``           perhaps ``name`` and ``similarity``
``map``             ``map``              ``minimum``, ``maximum``; perhaps ``unit``
``tensor``          ``dtype``            ``name``, ``shape``, ``data``; perhaps ``encoding``
==================  ===================  ============================================================================

Tasks, and the model's own code behind them, give plain dicts of these keys.

- ``box`` is {x, y, width, height}, a key point {x, y, perhaps z, score, name}: fractions of the frame, from its top
  left corner.
- ``corners`` are the four [x, y] of a turned box, clockwise from its own top left; ``angle`` is how far it is turned,
  in degrees, clockwise, in the frame's pixels.
- ``mask`` is an array of booleans, ``map`` one of uint8: at their own size, and over the whole frame.  ``area`` is the
  share of the frame that a mask covers; ``minimum`` and ``maximum`` are what 0 and 255 of a map stand for.
- ``vector`` and the ``data`` of a tensor are arrays; ``similarity`` is the cosine to ``name``, the nearest one known.
- ``character_scores`` has one for each character of ``text``.
- ``parts`` is what another model says of the detection's part of the frame: predictions of any kind.

In a payload of the native format those kinds that came later say their ``kind`` themselves.
"""

from __future__ import annotations

from typing import Any, Mapping

__all__ = [
    "ANOMALY",
    "CLASSIFICATION",
    "DETECTION",
    "EMBEDDING",
    "KEYPOINTS",
    "MAP",
    "SEGMENTATION",
    "TENSOR",
    "TEXT",
    "kind_of",
]

CLASSIFICATION, DETECTION, SEGMENTATION, KEYPOINTS = "classification", "detection", "segmentation", "keypoints"
ANOMALY, TEXT, EMBEDDING, MAP, TENSOR = "anomaly", "text", "embedding", "map", "tensor"

_OWN_KEYS = (
    ("dtype", TENSOR),
    ("vector", EMBEDDING),
    ("text", TEXT),
    ("anomalous", ANOMALY),
    ("box", DETECTION),
    ("track_id", DETECTION),
    ("parts", DETECTION),
    ("keypoints", KEYPOINTS),
    ("mask", SEGMENTATION),
    ("map", MAP),
)
"""In the order in which they decide: text may have a box, and a detection a mask."""
_DISTINCTIVE = frozenset({"kind", *dict(_OWN_KEYS)})


def kind_of(prediction: Mapping[str, Any]) -> str:
    """The kind that a prediction names, or else that its keys are of; a key with None counts as left out.

    >>> kind_of({"label": "Cat", "label_id": 8, "score": 0.5})
    'classification'
    """
    if _DISTINCTIVE.isdisjoint(prediction):
        return CLASSIFICATION  # most are, and there are many of them
    named = prediction.get("kind")
    if named is not None:
        return str(named)
    for key, kind in _OWN_KEYS:
        if prediction.get(key) is not None:
            return kind
    return CLASSIFICATION
