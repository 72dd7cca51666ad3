"""MediaPipe's networks: SSD with key points, landmarks, masks. Anchors and ranges are those of its graphs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from scripts.model_checks.references.network import (
    Array,
    Prediction,
    box,
    interpreter,
    letterbox,
    mask,
    overlap,
    planes,
    points,
    resized,
    run,
    session,
    sigmoid,
)


def _size(path: Path) -> tuple[int, int, bool]:
    """Width, height, and whether the channels come first."""
    shape = (
        session(path).get_inputs()[0].shape
        if path.suffix == ".onnx"
        else interpreter(path).get_input_details()[0]["shape"]
    )
    first = int(shape[1]) in (1, 3)
    return (int(shape[3]), int(shape[2]), True) if first else (int(shape[2]), int(shape[1]), False)


def _tensor(pixels: Array, *, signed: bool, first: bool) -> Array:
    values = pixels[..., ::-1].astype(np.float32) / np.float32(255)
    values = values * 2 - 1 if signed else values
    return planes(values) if first else values[None]


def anchors(size: int, strides: tuple[int, ...], *, doubled: bool = True) -> Array:
    """Centres of the anchors: two for each layer that shares a stride, or one."""
    rows = []
    for stride in sorted(set(strides)):
        count = strides.count(stride) * (2 if doubled else 1)
        side = size // stride
        y, x = np.mgrid[:side, :side]
        centre = np.stack([(x.ravel() + 0.5) / side, (y.ravel() + 0.5) / side], axis=1)
        rows.append(np.repeat(centre, count, axis=0))
    return np.concatenate(rows)


def ssd(
    path: Path,
    picture: Array,
    *,
    strides: tuple[int, ...],
    doubled: bool = True,
    signed: bool = True,
    score: float = 0.5,
    nms: float = 0.3,
    label: str = "face",
) -> list[Prediction]:
    """Boxes and key points relative to anchors, a logit each; a heap of boxes becomes its mean, weighted by score."""
    width, height, first = _size(path)
    canvas, back = letterbox(picture, width, height, fill=0, smooth=True)
    outputs = run(path, _tensor(canvas, signed=signed, first=first)).values()
    logits = np.concatenate([each.reshape(-1) for each in outputs if each.shape[-1] == 1])
    rows = np.concatenate([each.reshape(-1, each.shape[-1]) for each in outputs if each.shape[-1] > 1])
    places = rows.reshape(len(rows), -1, 2) / width
    base = anchors(width, tuple(strides), doubled=doubled)
    places[:, 0] += base
    places[:, 2:] += base[:, None]
    middle, half = places[:, 0].copy(), places[:, 1] / 2
    places[:, 0], places[:, 1] = middle - half, middle + half
    scores = sigmoid(logits)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= score]
    found = []
    while order:
        best = order[0]
        heap = [i for i in order if i == best or overlap(places[i, :2].ravel(), places[best, :2].ravel()) > nms]
        weights = scores[heap][:, None, None]
        mean = (places[heap] * weights).sum(axis=0) / weights.sum()
        mean = mean * width * [back[0, 0], back[1, 1]] + [back[0, 2], back[1, 2]]
        found.append(
            {
                "label": label,
                "score": round(float(scores[best]), 4),
                "box": box(*mean[:2].ravel()),
                "keypoints": points(mean[2:]),
            }
        )
        order = [i for i in order if i not in heap]
    return found


def landmarks(
    path: Path,
    picture: Array,
    *,
    output: str,
    values: int,
    count: int,
    more: str = "",
    presence: str = "",
    logit: bool = False,
    visible: bool = False,
    size: float = 0,
    grey: float = 0,
) -> list[Prediction]:
    """Points in pixels of the input, of a crop that fills it; how sure the network is that the thing is there."""
    width, height, first = _size(path)
    pixels = resized(picture, width, height)
    tensor = _tensor(pixels, signed=False, first=first)
    if grey:
        tensor = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[None, None].astype(np.float32) / np.float32(grey)
    outputs = run(path, tensor)
    both = np.concatenate([outputs[each].ravel() for each in (output, more) if each])
    rows = both.reshape(-1, values)[:count]
    one: Prediction = {"keypoints": points(rows[:, :2] / (size or width), sigmoid(rows[:, 3]) if visible else None)}
    if presence:
        sure = float(outputs[presence].ravel()[0])
        one["score"] = round(float(sigmoid(sure)) if logit else sure, 4)
    return [one]


def selfie(path: Path, picture: Array, *, label: str = "person") -> list[Prediction]:
    """How likely each pixel is a person's, stretched, RGB in 0..1."""
    width, height, first = _size(path)
    outputs = run(path, _tensor(resized(picture, width, height), signed=False, first=first))
    covered = next(iter(outputs.values()))[0, ..., 0].round() > 0
    return [{"label": label, "mask": mask(covered), "area": round(float(covered.mean()), 4)}]
