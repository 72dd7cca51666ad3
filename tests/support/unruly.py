"""Models and pictures for ``plugins/unruly.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agent.config.models import ModelOptions
from agent.frames.frame import Picture
from agent.inference.manifest import ModelSpec, resolve
from tests.support.plugins.unruly import CUES

PLUGINS = Path(__file__).parent / "plugins"


def jpeg(cue: str, number: int = 0) -> bytes:
    """A picture that tells the backend what to do; with another number, one of the same size and other bytes."""
    coded = cv2.imencode(".jpg", np.full((16, 16, 3), CUES[cue], np.uint8))[1].tobytes()
    return coded + number.to_bytes(4, "big")


def picture(cue: str, number: int = 0) -> Picture:
    return Picture(jpeg(cue, number), "jpeg", 16, 16)


def model(folder: Path, cues: str = "", **options: Any) -> dict[str, Any]:
    """The configuration of an unruly model."""
    folder.mkdir(exist_ok=True)
    path = folder / "model.unruly"
    path.write_text(cues)
    (folder / "labels.txt").write_text("calm\nfine\nodd\n")
    return {
        "source": str(path),
        "backend": "unruly:Unruly",
        "task": "image-classification",
        "labels": str(folder / "labels.txt"),
        "threads": 1,
        "python_path": [str(PLUGINS)],
        **options,
    }


def spec(folder: Path, cues: str = "", **options: Any) -> ModelSpec:
    made = model(folder, cues, **options)
    made["python_path"] = tuple(made["python_path"])
    return resolve(ModelOptions(**made), folder)
