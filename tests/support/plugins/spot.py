"""A model that finds the bright spot of a picture, all of it a user's own code: a backend and a task."""

from __future__ import annotations

import numpy as np

from agent.inference.runtime import boxes
from agent.inference.runtime.base import Backend, Task, TensorInfo

SIDE = 64


class Spot(Backend):
    inputs = (TensorInfo("picture", (1, SIDE, SIDE, 3), "uint8"),)
    outputs = (TensorInfo("corners", (4,), "float32"),)

    def __init__(self, path, threads, accelerator, options):
        self.least = int(options.get("least", 128))

    def run(self, arrays):
        rows, columns = np.nonzero(arrays[0][0].mean(axis=2) >= self.least)
        if not rows.size:
            return [np.zeros(4, np.float32)]
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return [np.array(corners, np.float32) / SIDE]


class Where(Task):
    def __init__(self, options, labels, inputs, outputs):
        self.label = str(options.get("label", "spot"))

    def predictions(self, outputs, geometry):
        if not outputs[0].any():
            return []
        left, top, right, bottom = boxes.to_frame(outputs[0].reshape(1, 4), geometry)[0]
        box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        return [{"label": self.label, "label_id": np.int64(0), "score": np.float32(1), "box": box}]
