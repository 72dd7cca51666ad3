"""Predictions for tests of comparison: some that are easy to read, and Hypothesis strategies for any."""

from __future__ import annotations

import base64
import struct

import numpy as np
from hypothesis import strategies as st

from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Keypoint,
    Keypoints,
    Map,
    Mask,
    Parts,
    Segmentation,
    Tensor,
    Text,
)
from agent.inference.runtime.planes import png, rle


def label(name, score=0.9):
    return Classification(name, 0, score)


def boxed(name, x, *, width=0.2, score=0.9, **more):
    return Detection(name, 0, score, Box(x, 0.1, width, 0.2), **more)


def tensor(data, shape=(2,), name="out"):
    return Tensor(name, shape, "float32", data)


def packed(*numbers):
    raw = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return Tensor("out", (len(numbers),), "float32", raw, "base64")


def vector(*data, name="", similarity=None):
    return Embedding("float32", len(data), struct.pack(f"<{len(data)}f", *data), name, similarity)


def mask(pixels):
    height, width = np.shape(pixels)
    return Mask(width, height, rle(np.asarray(pixels, np.bool_)))


def strip(left, right, *, width=80, height=6):
    """A mask of the columns from ``left`` to before ``right``."""
    pixels = np.zeros((height, width), np.bool_)
    pixels[:, left:right] = True
    return mask(pixels)


def masked(name, left, right):
    return Segmentation(label=name, label_id=0, score=0.9, area=(right - left) / 80, mask=strip(left, right))


def pose(*places, names=(), scores=()):
    """Key points at places, with names and scores where they are given."""
    made = [Keypoint(x, y) for x, y in places]
    made = [Keypoint(one.x, one.y, name=name) for one, name in zip(made, names, strict=True)] if names else made
    if scores:
        made = [Keypoint(one.x, one.y, score=score, name=one.name) for one, score in zip(made, scores, strict=True)]
    return tuple(made)


def turned(x, y, width, height, degrees):
    """The corners of a box that is turned about its centre."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return tuple(
        (x + (a * width * cosine - b * height * sine) / 2, y + (a * width * sine + b * height * cosine) / 2)
        for a, b in corners
    )


def mask_png(pixels):
    """A mask as PNG."""
    height, width = np.shape(pixels)
    return Image(width, height, png(np.asarray(pixels, np.bool_)))


def plane(pixels):
    pixels = np.asarray(pixels, np.uint8)
    return Image(pixels.shape[1], pixels.shape[0], png(pixels))


def depth(pixels, minimum=0.0, maximum=5.0, unit="m"):
    return Map(plane(pixels), minimum, maximum, unit)


EXAMPLES = {
    "classification": label("cat"),
    "detection": boxed("cat", 0.1),
    "segmentation": masked("road", 0, 40),
    "keypoints": Keypoints(pose((0.1, 0.2), (0.3, 0.4))),
    "anomaly": Anomaly(True, 0.9),
    "text": Text("EXIT", 0.9),
    "embedding": vector(1, 2, 3),
    "map": depth([[0, 255]]),
    "tensor": tensor([1.0, 2.0]),
}
"""One of each kind that there is."""
WORDS = st.sampled_from(["cat", "dog", "cup"])
SCORES = st.floats(0, 1)
SIDES = st.floats(0, 1).map(lambda side: round(side, 6))
RECTANGLES = st.builds(Box, SIDES, SIDES, SIDES, SIDES)
NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8)
PIXELS = st.integers(1, 7).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 255), min_size=width, max_size=width), min_size=1, max_size=7)
)
BITS = PIXELS.map(lambda rows: np.array(rows) > 127)
MASKS = BITS.map(mask) | BITS.map(mask_png)
POINTS = st.lists(
    st.builds(Keypoint, SIDES, SIDES, score=st.none() | SCORES, name=st.sampled_from(["", "nose", "tip"])), max_size=4
).map(tuple)
CORNERS = st.none() | st.tuples(*[st.tuples(SIDES, SIDES)] * 4)
TENSORS = NUMBERS.map(lambda data: tensor(data, (len(data),))) | NUMBERS.map(lambda data: packed(*data))
VECTORS = st.builds(lambda data, name: vector(*data, name=name), NUMBERS, st.sampled_from(["", "Ann", "Bob"]))
CLASSES = st.builds(Classification, WORDS, st.just(1), SCORES)
WITHOUT_PARTS = st.one_of(
    CLASSES,
    st.builds(Segmentation, label=WORDS, label_id=st.just(1), score=st.none() | SCORES, area=SCORES, mask=MASKS),
    st.builds(Keypoints, POINTS, st.sampled_from(["", "hand"]), st.none() | st.just(1), st.none() | SCORES),
    st.builds(Anomaly, st.booleans(), SCORES, st.none() | SCORES, st.none() | PIXELS.map(plane)),
    st.builds(Text, WORDS, st.none() | SCORES, st.none() | RECTANGLES, CORNERS),
    VECTORS,
    st.builds(Map, PIXELS.map(plane), st.floats(-9, 9), st.floats(-9, 9), st.sampled_from(["", "m"])),
    TENSORS,
)


def detections(parts):
    """Detections with all that they may have."""
    return st.builds(
        Detection,
        WORDS,
        st.just(1),
        SCORES,
        RECTANGLES,
        mask=st.none() | MASKS,
        keypoints=POINTS,
        corners=CORNERS,
        track_id=st.none() | st.integers(0, 9),
        parts=st.lists(parts, max_size=2).map(Parts),
    )


ANY = WITHOUT_PARTS | detections(WITHOUT_PARTS | detections(CLASSES))
ANSWERS = st.lists(ANY, max_size=5)
"""Of any kinds, one beside the other."""
