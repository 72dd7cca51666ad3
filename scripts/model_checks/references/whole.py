"""Networks that answer for the whole picture: classes, vectors, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from scripts.model_checks.references.network import (
    Array,
    Prediction,
    interpreter,
    letterbox,
    mask,
    names,
    planes,
    resized,
    run,
    session,
    sigmoid,
    softmax,
)

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def tensor(
    path: Path,
    picture: Array,
    *,
    size: tuple[int, int],
    short: int = 0,
    color: str = "RGB",
    mean: Any = 0.0,
    std: Any = 255.0,
    fill: int | None = None,
    rule: str = "area",
) -> Array:
    """The picture as the network reads it: (pixel - mean) / std of a stretched, cropped or letterboxed picture.

    ``rule``: "area" averages what becomes smaller; "linear" and "nearest" are OpenCV's.
    """
    width, height = size

    def stretched(across: int, down: int) -> Array:
        if rule == "area":
            return resized(picture, across, down)
        interpolation = cv2.INTER_NEAREST if rule == "nearest" else cv2.INTER_LINEAR
        return cv2.resize(picture, (across, down), interpolation=interpolation)

    if fill is not None:
        pixels = letterbox(picture, width, height, fill=fill, smooth=True)[0]
    elif short:
        rows, columns = picture.shape[:2]
        scale = short / min(rows, columns)
        inner = stretched(round(columns * scale), round(rows * scale))
        top, left = (inner.shape[0] - height) // 2, (inner.shape[1] - width) // 2
        pixels = inner[top : top + height, left : left + width]
    else:
        pixels = stretched(width, height)
    if color == "GRAY":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    elif color == "RGB":
        pixels = pixels[..., ::-1]
    values = ((pixels.astype(np.float32) - np.array(mean)) / np.array(std)).astype(np.float32)
    shape = (
        session(path).get_inputs()[0].shape
        if path.suffix == ".onnx"
        else interpreter(path).get_input_details()[0]["shape"]
    )
    shaped: Array = planes(values) if shape[1] in (1, 3) else values[None]
    return np.repeat(shaped, shape[0], axis=0) if isinstance(shape[0], int | np.integer) and shape[0] > 1 else shaped


def classes(
    path: Path,
    picture: Array,
    *,
    logits: bool = False,
    labels: tuple[str, ...] = (),
    top: int = 5,
    **read: Any,
) -> list[Prediction]:
    """The best classes and their probabilities."""
    shares = next(iter(run(path, tensor(path, picture, **read)).values())).reshape(-1)
    shares = softmax(shares) if logits else shares
    said = dict(enumerate(labels)) or (names(path) if path.suffix == ".onnx" else {})
    return [
        {"label": said.get(int(i), str(i)), "label_id": int(i), "score": round(float(shares[i]), 4)}
        for i in np.argsort(-shares, kind="stable")[:top]
    ]


def vector(path: Path, picture: Array, **read: Any) -> list[Prediction]:
    """The first picture's vector, as long as it comes out: compared by its direction."""
    values = next(iter(run(path, tensor(path, picture, **read)).values()))[0].reshape(-1)
    return [{"vector": [round(float(each), 5) for each in values]}]


def covered(
    path: Path, picture: Array, *, threshold: float = 0.5, logits: bool = False, **read: Any
) -> list[Prediction]:
    """One class's probability of each pixel."""
    share = next(iter(run(path, tensor(path, picture, **read)).values()))
    share = share.reshape(share.shape[1:3] if share.shape[-1] == 1 else share.shape[-2:])
    share = sigmoid(share) if logits else share
    return [{"mask": mask(share > threshold), "area": round(float((share > threshold).mean()), 4)}]


def digits(path: Path, picture: Array, **read: Any) -> list[Prediction]:
    """A number: an output of ten probabilities for each digit."""
    outputs = run(path, tensor(path, picture, **read))
    shares = [outputs[name].reshape(-1) for name in sorted(outputs)]
    score = float(np.mean([each.max() for each in shares]))
    return [{"text": "".join(str(each.argmax()) for each in shares), "score": round(score, 4)}]


def sign(path: Path, picture: Array, *, labels: tuple[str, str], **read: Any) -> list[Prediction]:
    """One logit: the second label where it is above nought."""
    share = float(sigmoid(next(iter(run(path, tensor(path, picture, **read)).values())).ravel()[0]))
    best = int(share > 1 - share)
    return [{"label": labels[best], "label_id": best, "score": round(max(share, 1 - share), 4)}]
