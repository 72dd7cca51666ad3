"""The kinds of predictions: what both sides of the worker's socket agree on.

==================  ===================  ============================================================================
kind                its own key          what else it has
==================  ===================  ============================================================================
``classification``                       ``label``, ``label_id``, ``score``
``detection``       ``box``              the same; perhaps ``mask``, ``keypoints``, ``track_id``
``segmentation``    ``mask``             ``label``, ``label_id``, ``score``
``anomaly``         ``anomalous``        ``score``; perhaps ``map``
``text``            ``text``             perhaps ``score`` and ``box``
``embedding``       ``vector``
``tensor``          ``dtype``            ``name``, ``shape``, ``data``; perhaps ``encoding``
==================  ===================  ============================================================================

Tasks, and the model's own code behind them, give plain dicts of these keys; masks, maps, vectors and the data of
tensors may be arrays.  In a payload of the native format those kinds that came later say their ``kind`` themselves.
"""

from __future__ import annotations

from typing import Any, Mapping

__all__ = [
    "ANOMALY",
    "CLASSIFICATION",
    "DETECTION",
    "EMBEDDING",
    "SEGMENTATION",
    "TENSOR",
    "TEXT",
    "kind_of",
]

CLASSIFICATION, DETECTION, SEGMENTATION = "classification", "detection", "segmentation"
ANOMALY, TEXT, EMBEDDING, TENSOR = "anomaly", "text", "embedding", "tensor"

_OWN_KEYS = (
    ("dtype", TENSOR),
    ("vector", EMBEDDING),
    ("text", TEXT),
    ("anomalous", ANOMALY),
    ("box", DETECTION),
    ("keypoints", DETECTION),
    ("track_id", DETECTION),
    ("mask", SEGMENTATION),
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
