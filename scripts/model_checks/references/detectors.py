"""Detectors: Ultralytics, decoded boxes and scores, PicoDet, SSD of Caffe, CenterFace."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import cv2
import numpy as np

from scripts.model_checks.references.network import (
    Array,
    Prediction,
    box,
    letterbox,
    mask,
    metadata,
    names,
    planes,
    points,
    resized,
    run,
    softmax,
    suppress,
)

FINISHED = 6  # corners, score, label


def _place(back: Array, corners: Array) -> list[float]:
    x1, y1, x2, y2 = (float(each) for each in corners)
    return [
        back[0, 0] * x1 + back[0, 2],
        back[1, 1] * y1 + back[1, 2],
        back[0, 0] * x2 + back[0, 2],
        back[1, 1] * y2 + back[1, 2],
    ]


def ultralytics(path: Path, picture: Array, *, score: float = 0.25, nms: float = 0.7) -> list[Prediction]:
    """Detect and segment: letterboxed on grey 114, RGB in 0..1; one row a candidate, or at most 300 finished rows."""
    height, width = ast.literal_eval(metadata(path)["imgsz"])
    canvas, back = letterbox(picture, width, height, fill=114)
    outputs = list(run(path, planes(canvas[..., ::-1] / np.float32(255))).values())
    labels = names(path)
    if outputs[0].shape[2] == FINISHED:
        rows = [row for row in outputs[0][0] if row[4] >= score]
        return [
            {
                "label": labels[int(row[5])],
                "label_id": int(row[5]),
                "score": round(float(row[4]), 4),
                "box": box(*_place(back, row[:4])),
            }
            for row in rows
        ]
    rows = outputs[0][0].T
    classes = rows[:, 4 : 4 + len(labels)]
    rows = rows[classes.max(axis=1) >= score]
    classes = rows[:, 4 : 4 + len(labels)]
    if not len(rows):
        return []
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    found = []
    for index in suppress(corners, classes.max(axis=1), classes.argmax(axis=1), nms):
        label = int(classes[index].argmax())
        one: Prediction = {
            "label": labels[label],
            "label_id": label,
            "score": round(float(classes[index].max()), 4),
            "box": box(*_place(back, corners[index])),
        }
        if len(outputs) > 1:
            one["mask"] = mask(_instance(rows[index, 4 + len(labels) :], outputs[1][0], corners[index], back, picture))
        found.append(one)
    return found


def _instance(coefficients: Array, prototypes: Array, corners: Array, back: Array, picture: Array) -> Array:
    """One object's mask in the frame: the prototypes' sum, cut out of the letterbox, inside the object's box."""
    count, rows, columns = prototypes.shape
    logits = (coefficients @ prototypes.reshape(count, -1)).reshape(rows, columns)
    inner = 1 / back[0, 0], 1 / back[1, 1]
    x, y = -back[0, 2] * inner[0], -back[1, 2] * inner[1]
    step = 4  # the prototypes' stride
    cut = logits[round(y / step) : round((y + inner[1]) / step), round(x / step) : round((x + inner[0]) / step)]
    height, width = picture.shape[:2]
    covered = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    left, top, right, bottom = _place(back, corners)
    inside = np.zeros_like(covered)
    inside[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return covered & inside


def yolox(path: Path, picture: Array, *, size: int, score: float = 0.1, nms: float = 0.45) -> list[Prediction]:
    """YOLOX before its decoding: at the top left of grey 114, BGR in 0..255; boxes in grid cells and logarithms."""
    rows, columns = picture.shape[:2]
    scale = min(size / rows, size / columns)
    height, width = int(rows * scale), int(columns * scale)
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    found = next(iter(run(path, planes(canvas)).values()))[0]
    steps = np.concatenate([np.full((size // stride) ** 2, stride) for stride in (8, 16, 32)])[:, None]
    cells = [np.mgrid[: size // stride, : size // stride][::-1].reshape(2, -1).T for stride in (8, 16, 32)]
    centre, half = (found[:, :2] + np.concatenate(cells)) * steps, np.exp(found[:, 2:4]) * steps / 2
    corners = np.concatenate([centre - half, centre + half], axis=1) / [width, height, width, height]
    classes = found[:, 4:5] * found[:, 5:]
    best, labels = classes.max(axis=1), classes.argmax(axis=1)
    chosen = np.flatnonzero(best > score)
    kept = chosen[suppress(corners[chosen], best[chosen], labels[chosen], nms)]
    return [{"label_id": int(labels[i]), "score": round(float(best[i]), 4), "box": box(*corners[i])} for i in kept]


def finished(path: Path, picture: Array, *, size: tuple[int, int], score: float = 0.25) -> list[Prediction]:
    """Rows of corners in the input's pixels, score and label; the input is BGR bytes, stretched."""
    rows = next(iter(run(path, np.ascontiguousarray(resized(picture, *size)[None])).values()))[0]
    return [
        {"label_id": int(row[5]), "score": round(float(row[4]), 4), "box": box(*(row[:4] / [*size, *size]))}
        for row in rows
        if row[4] >= score
    ]


def boxes_and_scores(
    path: Path,
    picture: Array,
    *,
    size: tuple[int, int],
    mean: float,
    std: float,
    score: float = 0.65,
    nms: float = 0.4,
    label: str = "face",
) -> list[Prediction]:
    """UltraFace: corners in fractions, and two probabilities, the first of the background; RGB, stretched."""
    pixels = (cv2.resize(picture, size)[..., ::-1].astype(np.float32) - mean) / std
    outputs = run(path, planes(pixels))
    corners, scores = outputs["boxes"][0], outputs["scores"][0][:, 1]
    corners, scores = corners[scores > score], scores[scores > score]
    kept = suppress(corners, scores, np.zeros(len(scores)), nms)
    return [{"label": label, "score": round(float(scores[i]), 4), "box": box(*corners[i])} for i in kept]


def picodet(path: Path, picture: Array, *, score: float = 0.4, nms: float = 0.5) -> list[Prediction]:
    """PicoDet without its end: four levels of scores, four of distances as distributions; BGR, ImageNet, stretched."""
    height, width = 800, 608
    pixels = (cv2.resize(picture, (width, height)) / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    outputs = list(run(path, planes(pixels)).values())
    half = len(outputs) // 2
    labels = names(path)
    all_corners, all_scores = [], []
    for stride, scores, distances in zip((8, 16, 32, 64), outputs[:half], outputs[half:], strict=True):
        across, down = math.ceil(width / stride), math.ceil(height / stride)
        x, y = np.meshgrid(np.arange(across) + 0.5, np.arange(down) + 0.5)
        bins = distances.shape[-1] // 4
        reach = softmax(distances[0].reshape(-1, bins)) @ np.arange(bins)
        reach = reach.reshape(-1, 4)
        centre = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], axis=1)
        all_corners.append((centre + reach * [-1, -1, 1, 1]) * stride / [width, height, width, height])
        all_scores.append(scores[0])
    corners, classes = np.concatenate(all_corners), np.concatenate(all_scores)
    found = []
    for label in range(classes.shape[1]):
        chosen = classes[:, label] > score
        one, scores = corners[chosen], classes[chosen, label]
        found += [
            {"label": labels[label], "label_id": label, "score": round(float(scores[i]), 4), "box": box(*one[i])}
            for i in suppress(one, scores, np.zeros(len(scores)), nms)
        ]
    return sorted(found, key=lambda each: -each["score"])


def centerface(path: Path, picture: Array, *, score: float = 0.5, nms: float = 0.3) -> list[Prediction]:
    """CenterFace at the picture's own size, in multiples of 32, with the batch and the size of the file opened."""
    import onnx  # noqa: PLC0415 - what this one loop needs
    import onnxruntime  # noqa: PLC0415

    model = onnx.load(str(path))
    weights = {each.name for each in model.graph.initializer}
    for value in [*(each for each in model.graph.input if each.name not in weights), *model.graph.output]:
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}{axis}"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    opened = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows, columns = picture.shape[:2]
    width, height = math.ceil(columns / 32) * 32, math.ceil(rows / 32) * 32
    pixels = cv2.resize(picture, (width, height))[..., ::-1]
    heat, scale, offset, marks = opened.run(None, {"input.1": planes(pixels.astype(np.float32))})
    y, x = np.where(heat[0, 0] > score)
    scores = heat[0, 0, y, x]
    high, wide = np.exp(scale[0, 0, y, x]) * 4, np.exp(scale[0, 1, y, x]) * 4
    top = np.clip((y + offset[0, 0, y, x] + 0.5) * 4 - high / 2, 0, height)
    left = np.clip((x + offset[0, 1, y, x] + 0.5) * 4 - wide / 2, 0, width)
    corners = np.stack([left, top, left + wide, top + high], axis=1)
    found = []
    for i in suppress(corners, scores, np.zeros(len(scores)), nms):
        landmark = marks[0, :, y[i], x[i]].reshape(5, 2)[:, ::-1]
        places = [left[i], top[i]] + landmark * [wide[i], high[i]]
        found.append(
            {
                "score": round(float(scores[i]), 4),
                "box": box(*(corners[i] / [width, height, width, height])),
                "keypoints": points(places / [width, height]),
            }
        )
    return found


def retinaface_plate(path: Path, picture: Array, *, score: float = 0.7, nms: float = 0.4) -> list[Prediction]:
    """RetinaFace as it detects plates: boxes, scores and four corners against priors; BGR less its means."""
    rows, columns = picture.shape[:2]
    pixels = picture.astype(np.float32) - [104, 117, 123]
    outputs = run(path, planes(pixels))
    priors = []
    for step, sizes in ((8, (24, 48)), (16, (96, 192)), (32, (384, 768))):
        for i in range(math.ceil(rows / step)):
            for j in range(math.ceil(columns / step)):
                priors += [
                    ((j + 0.5) * step / columns, (i + 0.5) * step / rows, size / columns, size / rows) for size in sizes
                ]
    prior = np.array(priors)
    where, scores = outputs["loc"][0], outputs["conf"][0][:, 1]
    centre = prior[:, :2] + where[:, :2] * 0.1 * prior[:, 2:]
    size = prior[:, 2:] * np.exp(where[:, 2:] * 0.2)
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    chosen = np.flatnonzero(scores > score)
    kept = [chosen[i] for i in suppress(corners[chosen], scores[chosen], np.zeros(len(chosen)), nms)]
    marks = outputs["landms"][0].reshape(len(prior), -1, 2)
    return [
        {
            "score": round(float(scores[i]), 4),
            "box": box(*corners[i]),
            "keypoints": points(prior[i, :2] + marks[i] * 0.1 * prior[i, 2:]),
        }
        for i in kept
    ]
