"""One network run once, with the runtime its format is made for, and the few steps that every loop shares.

Nothing here is Verge's: what Verge makes of a model is held against it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = Any
Prediction = dict[str, Any]
Run = Callable[[Array], dict[str, Array]]


@cache
def session(path: Path) -> Any:
    """The ONNX Runtime session of a file."""
    import onnxruntime  # noqa: PLC0415 - each runtime is loaded for its own format alone

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def interpreter(path: Path) -> Any:
    """The LiteRT interpreter of a file, with its tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - as above

    loaded = Interpreter(model_path=str(path))
    loaded.allocate_tensors()
    return loaded


def run(path: Path, tensor: Array) -> dict[str, Array]:
    """All outputs by name, for one input."""
    if path.suffix == ".onnx":
        opened = session(path)
        names = [each.name for each in opened.get_outputs()]
        return dict(zip(names, opened.run(names, {opened.get_inputs()[0].name: tensor}), strict=True))
    loaded = interpreter(path)
    loaded.set_tensor(loaded.get_input_details()[0]["index"], tensor)
    loaded.invoke()
    return {each["name"]: loaded.get_tensor(each["index"]) for each in loaded.get_output_details()}


def metadata(path: Path) -> dict[str, str]:
    """What an ONNX file says of itself."""
    return dict(session(path).get_modelmeta().custom_metadata_map)


def names(path: Path) -> dict[int, str]:
    """The labels in an ONNX file: Ultralytics' ``names`` or Paddle's ``character``."""
    said = metadata(path)
    if "names" in said:
        return dict(ast.literal_eval(said["names"]))
    return dict(enumerate(said.get("character", "").splitlines()))


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(values, -80, 80)))


def softmax(values: Array) -> Array:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def planes(pixels: Array) -> Array:
    """Height, width, channels → one picture of a batch, channels first."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def resized(picture: Array, width: int, height: int) -> Array:
    """Stretched: what becomes smaller is averaged, as Pillow and scikit-image do."""
    rows, columns = picture.shape[:2]
    smaller = width * height < rows * columns
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def letterbox(picture: Array, width: int, height: int, *, fill: int, smooth: bool = False) -> tuple[Array, Array]:
    """The picture in the middle of a canvas, its shape kept; and the 2 × 3 matrix from canvas to frame fractions.

    ``smooth`` averages what becomes smaller; OpenCV's bilinear rule takes four neighbours.
    """
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    inner = (round(columns * scale), round(rows * scale))
    left, top = (width - inner[0]) / 2, (height - inner[1]) / 2
    x, y = round(left - 0.1), round(top - 0.1)
    canvas = np.full((height, width, 3), fill, np.uint8)
    canvas[y : y + inner[1], x : x + inner[0]] = resized(picture, *inner) if smooth else cv2.resize(picture, inner)
    back = np.array([[1 / inner[0], 0, -x / inner[0]], [0, 1 / inner[1], -y / inner[1]]])
    return canvas, back


def box(left: float, top: float, right: float, bottom: float) -> dict[str, float]:
    """Verge's way to write a box: fractions of the frame, inside it."""
    left, top, right, bottom = (float(min(max(each, 0), 1)) for each in (left, top, right, bottom))
    return {
        "x": round(left, 5),
        "y": round(top, 5),
        "width": round(right - left, 5),
        "height": round(bottom - top, 5),
    }


def points(places: Array, scores: Array | None = None) -> list[dict[str, float]]:
    """Key points as fractions of the frame."""
    rows = [{"x": round(float(each[0]), 5), "y": round(float(each[1]), 5)} for each in places]
    if scores is not None:
        for row, score in zip(rows, scores, strict=True):
            row["score"] = round(float(score), 4)
    return rows


def mask(covered: Array) -> dict[str, Any]:
    """A mask over the whole frame, written as the lengths of its runs in rows, the first of what is not covered."""
    flat = np.asarray(covered, dtype=bool).ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"width": int(covered.shape[1]), "height": int(covered.shape[0]), "runs": [0, *runs] if flat[0] else runs}


def overlap(one: Array, other: Array) -> float:
    """Intersection over union of two boxes given by their corners."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (one, other))
    return float(shared / (areas - shared))


def suppress(boxes: Array, scores: Array, labels: Array, limit: float) -> list[int]:
    """The best of each heap of boxes of one label, highest score first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(labels[index] != labels[k] or overlap(boxes[index], boxes[k]) <= limit for k in kept):
            kept.append(int(index))
    return kept
