"""PP-OCR and other readers: where text is, which way up it is, what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from scripts.model_checks.references.network import Array, Prediction, box, metadata, planes, run, softmax

LEAST = 3  # pixels of a text's shorter side
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _normalised(pixels: Array, means: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    return planes((pixels.astype(np.float32) / 255 - means[0]) / means[1])


def _grown(corners: Array, ratio: float) -> Array:
    """The rectangle around a text's shrunk core, moved outwards by area × ratio ÷ perimeter on each side."""
    (x, y), (width, height), angle = cv2.minAreaRect(corners.astype(np.float32))
    move = width * height * ratio / (2 * (width + height))
    return cv2.boxPoints(((x, y), (width + 2 * move, height + 2 * move), angle))


def _clockwise(corners: Array) -> Array:
    """Top left, top right, bottom right, bottom left."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    left, right = left[np.argsort(left[:, 1])], right[np.argsort(right[:, 1])]
    return np.array([left[0], right[0], right[1], left[1]])


def lines(
    path: Path,
    picture: Array,
    *,
    side: int = 736,
    imagenet: bool = True,
    threshold: float = 0.3,
    score: float = 0.6,
    ratio: float = 1.5,
    spread: int = 1,
    fixed: int = 0,
) -> list[Prediction]:
    """Differentiable binarisation: the shorter side at least ``side``, both multiples of 32; each heap of text pixels.

    PaddleOCR's figures, which RapidOCR changes: its mean is a half, its spread 2, its ratio 1.6.

    ``fixed``: at the top left of a black square of this side instead, made smaller where it must be.
    """
    rows, columns = picture.shape[:2]
    scale = max(1.0, side / min(rows, columns))
    height, width = (round(int(each * scale) / 32) * 32 for each in (rows, columns))
    if fixed:
        scale = min(1.0, fixed / max(rows, columns))
        height, width = round(rows * scale), round(columns * scale)
    pixels = cv2.resize(picture, (width, height))
    if fixed:
        pixels = cv2.copyMakeBorder(pixels, 0, fixed - height, 0, fixed - width, cv2.BORDER_CONSTANT)
    share = next(iter(run(path, _normalised(pixels, IMAGENET if imagenet else HALF)).values()))[0, 0]
    core = cv2.dilate((share > threshold).astype(np.uint8), np.ones((spread, spread), np.uint8))
    found = []
    for contour in cv2.findContours(core, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]:
        rectangle = cv2.minAreaRect(contour)
        if min(rectangle[1]) < LEAST:
            continue
        corners = cv2.boxPoints(rectangle)
        inside = np.zeros(share.shape, np.uint8)
        cv2.fillPoly(inside, [corners.astype(np.int32)], 1)
        sure = cv2.mean(share, inside)[0]
        if sure < score:
            continue
        corners = _clockwise(_grown(corners, ratio)) / [width, height]
        found.append(
            {
                "score": round(sure, 4),
                "box": box(*corners.min(axis=0), *corners.max(axis=0)),
                "corners": [[round(float(x), 5), round(float(y), 5)] for x, y in np.clip(corners, 0, 1)],
            }
        )
    return sorted(found, key=lambda each: (each["box"]["y"], each["box"]["x"]))


def characters(path: Path, keys: str = "") -> list[str]:
    """What each output means: the blank, the file's characters (or the file ``keys``), the space."""
    said = path.with_name(keys).read_text(encoding="utf-8") if keys else metadata(path)["character"]
    return ["", *said.strip("\n").split("\n"), " "]


def read(path: Path, picture: Array, *, height: int = 48, least: int = 320, keys: str = "") -> list[Prediction]:
    """One line of text: as high as the network, as wide as it needs, padded with grey; the best path of its CTC."""
    rows, columns = picture.shape[:2]
    wide = math.ceil(height * columns / rows)
    line = (cv2.resize(picture, (wide, height)).astype(np.float32) / 255 - 0.5) / 0.5
    padded = np.zeros((height, max(least, wide), 3), np.float32)
    padded[:, :wide] = line
    shares = next(iter(run(path, planes(padded)).values()))[0]
    if not np.allclose(shares.sum(axis=1), 1, atol=0.01):
        shares = softmax(shares)
    best, scores = shares.argmax(axis=1), shares.max(axis=1)
    kept = [i for i in range(len(best)) if best[i] and (i == 0 or best[i] != best[i - 1])]
    said = characters(path, keys)
    return [
        {
            "text": "".join(said[best[i]] for i in kept),
            "score": round(float(np.mean([scores[i] for i in kept])) if kept else 0.0, 4),
        }
    ]


def upright(path: Path, picture: Array, *, width: int = 192, height: int = 48, padded: bool = True) -> list[Prediction]:
    """Whether a line stands upside down: 0 or 180 degrees."""
    rows, columns = picture.shape[:2]
    wide = min(width, math.ceil(height * columns / rows)) if padded else width
    line = (cv2.resize(picture, (wide, height)).astype(np.float32) / 255 - 0.5) / 0.5
    canvas = np.zeros((height, width, 3), np.float32)
    canvas[:, :wide] = line
    shares = next(iter(run(path, planes(canvas)).values()))[0]
    best = int(shares.argmax())
    return [{"label": ("0", "180")[best], "label_id": best, "score": round(float(shares[best]), 4)}]


def page(path: Path, picture: Array, *, reader: str, keys: str = "", **rules: Any) -> list[Prediction]:
    """The whole page: each line cut out and straightened, then read, from the top down."""
    rows, columns = picture.shape[:2]
    found = []
    for line in lines(path, picture, **rules):
        corners = np.array(line["corners"], np.float32) * [columns, rows]
        wide = round(max(np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[2] - corners[3])))
        high = round(max(np.linalg.norm(corners[0] - corners[3]), np.linalg.norm(corners[1] - corners[2])))
        to = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
        turn = cv2.getPerspectiveTransform(corners.astype(np.float32), to)
        cut = cv2.warpPerspective(picture, turn, (wide, high), borderMode=cv2.BORDER_REPLICATE, flags=cv2.INTER_CUBIC)
        said = read(path.with_name(reader), cut, keys=keys)[0]
        found.append({**line, **said})
    return found
