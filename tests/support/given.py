"""What a task gives, of any kind: the plain dicts of the worker side, for Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

__all__ = ["MASKS", "PREDICTIONS", "TENSORS", "predictions"]

FRACTIONS = st.integers(0, 1_000_000).map(lambda n: n / 1_000_000)
NUMBERS = st.floats(-100, 100, width=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = arrays.arrays(np.bool_, SIDES)
LEVELS = arrays.arrays(np.uint8, SIDES)
BOXES = st.builds(
    lambda x, y, width, height: {
        "x": x,
        "y": y,
        "width": round(width * (1 - x), 6),
        "height": round(height * (1 - y), 6),
    },
    *[FRACTIONS] * 4,
)
CORNERS = st.lists(st.lists(FRACTIONS, min_size=2, max_size=2), min_size=4, max_size=4)


def some(needed, perhaps):
    """Dicts that have what is needed and some of the rest."""
    return st.fixed_dictionaries(needed, optional=perhaps)


LABELLED = {"label": TEXT, "label_id": st.integers(0, 99), "score": FRACTIONS}
POINTS = st.lists(
    some({"x": FRACTIONS, "y": FRACTIONS}, {"z": NUMBERS, "score": FRACTIONS, "name": TEXT}), min_size=1, max_size=3
)
PIECES = {"corners": CORNERS, "score": FRACTIONS, "box": BOXES}
ALONE = st.one_of(
    some(LABELLED, {}),
    some({"label": TEXT, "label_id": st.integers(0, 99), "mask": MASKS}, {"score": FRACTIONS, "area": FRACTIONS}),
    some({"keypoints": POINTS}, LABELLED),
    some({"anomalous": st.booleans(), "score": FRACTIONS}, {"threshold": FRACTIONS, "map": LEVELS}),
    TEXT.flatmap(
        lambda text: some(
            {"text": st.just(text)},
            {**PIECES, "character_scores": st.lists(FRACTIONS, min_size=len(text), max_size=len(text))},
        )
    ),
    some(
        {"vector": arrays.arrays(np.float32, st.integers(0, 9), elements=NUMBERS)},
        {"name": TEXT, "similarity": NUMBERS},
    ),
    some({"map": LEVELS, "minimum": st.floats(-9, 0), "maximum": st.floats(0, 9)}, {"unit": TEXT}),
)
"""Kinds without others inside them."""


def detections(parts):
    """Detections with all that they may have."""
    others = {
        "mask": MASKS,
        "keypoints": POINTS,
        "corners": CORNERS,
        "angle": st.floats(-180, 180),
        "track_id": st.integers(0, 99),
        "parts": st.lists(parts, min_size=1, max_size=2),
    }
    return some({**LABELLED, "box": BOXES}, others)


PREDICTIONS = ALONE | detections(ALONE | detections(ALONE))
TENSORS = arrays.arrays(np.float32, st.lists(st.integers(1, 3), max_size=3).map(tuple), elements=NUMBERS).map(
    lambda values: {"name": "out", "shape": list(values.shape), "dtype": "float32", "data": values}
)


def predictions():
    """What a task may return: predictions of any kinds beside each other, or tensors alone."""
    return st.lists(PREDICTIONS, max_size=4) | st.lists(TENSORS, min_size=1, max_size=2)
