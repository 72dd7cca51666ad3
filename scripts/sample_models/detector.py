"""SSD MobileNetV2 (Open Images, 24 classes) as MediaPipe's Objectron package carries it."""

from __future__ import annotations

import re
from pathlib import Path

from sample_models.archives import from_npm

SIZE = 300
MEAN, STD = 127.5, 127.5

_DATA = "objectron_solution_packed_assets.data"
_LOADER = "objectron_solution_packed_assets_loader.js"
_ENTRY = re.compile(r'"filename": "([^"]+)", "start": (\d+), "end": (\d+)')


def unpack(package: Path) -> tuple[bytes, list[str]]:
    """The model file as it is, and its labels."""
    data = from_npm(package, _DATA)
    parts = {
        name.rpartition("/")[2]: data[int(start) : int(end)]
        for name, start, end in _ENTRY.findall(from_npm(package, _LOADER).decode())
    }
    model = parts["object_detection_ssd_mobilenetv2_oidv4_fp16.tflite"]
    return model, parts["object_detection_oidv4_labelmap.txt"].decode().splitlines()
