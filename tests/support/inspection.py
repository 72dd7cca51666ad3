"""Anomaly models for tests, and pictures for them: what is bright, or coloured, is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.support import models

CLASSES = ["background", "red", "green", "blue"]
_INPUT = "[input]\nmean = [0.0]\nstd = [255.0]\ncolor = 'RGB'\n"


def inspector(folder: Path, table: str = "") -> Path:
    """A model with a map and a score: what is bright is an anomaly."""
    return _written(folder, models.onnx_inspector, 'task = "anomaly-detection"', table)


def segmenter(folder: Path, table: str = f"classes = {CLASSES}") -> Path:
    """A model with classes for each pixel: red, green and blue are anomalies."""
    return _written(folder, models.onnx_colour_classes, 'task = "segmentation"', table)


def classifier(folder: Path, table: str = 'normal = ["background"]') -> Path:
    """A model with classes for the whole picture."""

    def whole(path: Path) -> None:
        models.onnx_colour_classes(path, heads=("scores",))
        (folder / "labels.txt").write_text("\n".join(CLASSES))

    said = 'task = "image-classification"\nlabels = "labels.txt"'
    return _written(folder, whole, said, table)


def original(folder: Path, heads: tuple[str, ...] = ("scores", "planes"), **stage: object) -> Path:
    """A package as Lookout for Vision made them, with a network of today."""
    (folder / "mochi").mkdir(parents=True)
    models.onnx_colour_classes(folder / "mochi" / "model.onnx", heads=heads)
    told = {
        "type": "mochi", "threshold": 0.6, "image_width": 64, "image_height": 64, "image_range_scale": True,
        "normalize": False, "class_normal_ids": [0], "seg_normal_ids": [0],
        "classification_head_enabled": "scores" in heads, "segmentation_head_enabled": "planes" in heads,
    }  # fmt: skip
    graph = {
        "model_graph_type": "single_stage_model_graph",
        "stages": [told | stage],
        "image_level_classes": {"names": ["normal", "red", "green", "blue"], "normal_ids": [0]},
        "pixel_level_classes": {"names": CLASSES, "normal_ids": [0]},
    }
    (folder / "manifest.json").write_text(json.dumps({"model_graph": graph, "dataset": {}}))
    return folder


def _written(folder: Path, write, said: str, table: str) -> Path:
    folder.mkdir(parents=True)
    write(folder / "model.onnx")
    anomaly = f"[anomaly]\n{table}\n" if table else ""
    (folder / "manifest.toml").write_text(f'file = "model.onnx"\n{said}\n{anomaly}{_INPUT}')
    return folder


def dark(width: int = 128, height: int = 64) -> np.ndarray:
    """A picture in which nothing is wrong: height × width × 3, RGB."""
    return np.zeros((height, width, 3), np.uint8)


def spotted(width: int = 128, height: int = 64, color: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """The same with its left upper quarter in a colour."""
    pixels = dark(width, height)
    pixels[: height // 2, : width // 2] = color
    return pixels
