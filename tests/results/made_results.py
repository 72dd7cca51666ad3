"""Results for tests: one that is easy to change, and Hypothesis strategies for any."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

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
from agent.results.result import FrameFacts, ModelFacts, Result, Timing, Ulids, utc

IDS = Ulids()


def prediction(label="Cat", score=0.853, label_id=8, box=None):
    return Detection(label, label_id, score, box) if box else Classification(label, label_id, score)


def result(*predictions, camera="line-3", **changes):
    made = Result(
        id="01M81WYVCZDTGG45NEC23Z3NFM",
        thing="T",
        stream="line-3",
        task="object-detection",
        frame=FrameFacts(
            topic="cameras/line-3/frame",
            sequence=17,
            width=640,
            height=480,
            received_at="2026-01-02T03:04:05.678Z",
            camera=camera,
        ),
        model=ModelFacts("ssd", "1.0.0", "sha256:00ff", "litert 2.3.0"),
        predictions=predictions,
        timing_ms=Timing(queue=0.4, decode=1.1, preprocess=0.2, infer=6.9, postprocess=0.1, total=9.3),
    )
    return replace(made, **changes)


LABELS = st.sampled_from(["Cat", "Dog", "Bus", "class 17"])
NUMBERS = st.floats(-10, 10, allow_nan=False)
MS = st.floats(0, 1e6, allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.floats(0, 4e9, allow_nan=False).map(utc)
BOXES = st.builds(Box, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
LABELLED = LABELS | TEXT, st.integers(0, 2000), st.floats(0, 1)
CLASSES = st.builds(Classification, *LABELLED) | st.builds(Detection, *LABELLED, BOXES)
SIDES = st.integers(1, 99), st.integers(1, 99)
IMAGES = st.builds(Image, *SIDES, st.binary(max_size=9))
MASKS = st.builds(Mask, *SIDES, st.text("0Aao\\", min_size=1, max_size=9)) | IMAGES
SCORES = st.none() | st.floats(0, 1)
POINTS = st.lists(
    st.builds(Keypoint, NUMBERS, NUMBERS, z=st.none() | NUMBERS, score=SCORES, name=TEXT), max_size=3
).map(tuple)
POINT = st.tuples(NUMBERS, NUMBERS)
CORNERS = st.none() | st.tuples(POINT, POINT, POINT, POINT)
ALONE = st.one_of(
    st.builds(Segmentation, label=LABELS, label_id=st.integers(0, 9), score=SCORES, area=st.floats(0, 1), mask=MASKS),
    st.builds(Keypoints, POINTS, TEXT, st.none() | st.integers(0, 9), SCORES),
    st.builds(Anomaly, st.booleans(), st.floats(0, 1), st.none() | NUMBERS, st.none() | IMAGES),
    st.builds(Text, TEXT, SCORES, st.none() | BOXES, CORNERS, st.lists(st.floats(0, 1), max_size=3).map(tuple)),
    st.builds(
        lambda data, name, similarity: Embedding("float32", len(data) // 4, data, name, similarity),
        st.binary(max_size=12),
        TEXT,
        st.none() | st.floats(-1, 1),
    ),
    st.builds(Map, IMAGES, NUMBERS, NUMBERS, TEXT),
)


def detections(parts):
    """Detections with all that they may have."""
    return st.builds(
        Detection,
        *LABELLED,
        BOXES,
        mask=st.none() | MASKS,
        keypoints=POINTS,
        corners=CORNERS,
        angle=st.none() | NUMBERS,
        track_id=st.none() | st.integers(0, 99),
        parts=st.lists(parts, max_size=2).map(Parts),
    )


LATER = st.recursive(ALONE | CLASSES, detections, max_leaves=4)
"""Kinds, and parts of them, that came later."""
TENSORS = st.builds(
    Tensor,
    TEXT,
    st.lists(st.integers(0, 9), max_size=4).map(tuple),
    st.sampled_from(["float32", "uint8"]),
    st.lists(NUMBERS, max_size=4) | NUMBERS | st.just("AQI="),
    st.sampled_from([None, "base64"]),
)
FRAMES = st.builds(
    FrameFacts,
    topic=TEXT,
    sequence=st.integers(0, 2**53),
    width=st.integers(1, 8000),
    height=st.integers(1, 8000),
    captured_at=st.none() | TIMES,
    received_at=TIMES,
    camera=st.sampled_from(["door", "hall/7"]) | TEXT,
    retained=st.booleans(),
    damaged=st.booleans(),
    metadata=st.dictionaries(TEXT, st.none() | st.booleans() | NUMBERS | TEXT, max_size=3),
)
RESULTS = st.builds(
    Result,
    id=st.builds(IDS.new),
    thing=TEXT,
    stream=TEXT,
    task=st.sampled_from(["image-classification", "object-detection", "anomaly"]),
    frame=FRAMES,
    model=st.builds(ModelFacts, TEXT, TEXT, TEXT, TEXT, st.none() | TEXT),
    predictions=st.lists(CLASSES, max_size=5).map(tuple),
    timing_ms=st.builds(Timing, queue=MS, decode=MS, preprocess=MS, infer=MS, postprocess=MS, total=MS),
)
RAW_RESULTS = st.builds(
    lambda made, raw: replace(made, task="tensors", predictions=tuple(raw)), RESULTS, st.lists(TENSORS, max_size=3)
)
LATER_RESULTS = st.builds(
    lambda made, found: replace(made, predictions=tuple(found)), RESULTS, st.lists(LATER | CLASSES, max_size=4)
)
