"""What Intel's tools write of a model: OpenVINO's ``model_info`` in an ONNX file, Anomalib's ``metadata.json``.

==================================  ====================================================
``model_info …``                    read as
==================================  ====================================================
``mean_values``, ``scale_values``   mean and standard deviation, of pixels from 0 to 255
``reverse_input_channels``          whether the network reads RGB
``labels``                          names of the classes, spaces between them
``image_threshold``,                how an anomaly's score is scaled
``pixel_threshold``,
``normalization_scale``
==================================  ====================================================

Anomalib's file, beside the model, has the thresholds, and ``min`` and ``max``, of scores and of maps apart or of both
together; what is scaled by them is ``(x - threshold) / (max - min) + 0.5``.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Optional

__all__ = ["beside", "info"]

_PREFIX = "model_info "
_LARGEST = 1 << 20
_FILE = "metadata.json"
_TRUE = ("true", "yes", "1")


def info(entries: Mapping[str, str]) -> Dict[str, Any]:
    """What the ``model_info`` of a model's properties says; empty where there is none."""
    told = {key[len(_PREFIX) :]: value for key, value in entries.items() if key.startswith(_PREFIX)}
    facts: Dict[str, Any] = {}
    for key, fact in (("mean_values", "mean"), ("scale_values", "std")):
        numbers = _numbers(told.get(key, ""))
        if numbers and not (fact == "std" and 0.0 in numbers):
            facts[fact] = numbers
    if "reverse_input_channels" in told:
        facts["color"] = "RGB" if told["reverse_input_channels"].strip().lower() in _TRUE else "BGR"
    if told.get("labels", "").strip():
        facts["labels"] = told["labels"].split()
    return {**facts, **_anomaly(told, "normalization_scale")}


def beside(path: str) -> Dict[str, Any]:
    """What Anomalib's ``metadata.json`` beside a model says; empty where there is none that can be read."""
    try:
        with open(os.path.join(os.path.dirname(path), _FILE), encoding="utf-8") as file:
            told = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return _anomaly(told, "") if isinstance(told, dict) else {}


def _anomaly(told: Mapping[str, Any], scale: str) -> Dict[str, Any]:
    """Options of the task ``anomaly-detection``; nothing without a threshold."""
    image = _number(told.get("image_threshold"))
    if image is None:
        return {}
    figures = {
        "image_threshold": image,
        "pixel_threshold": _number(told.get("pixel_threshold")),
        "scale": _number(told.get(scale)) or _range(told, "pred_scores.") or _range(told, ""),
        "pixel_scale": _range(told, "anomaly_maps."),
    }
    return {"anomaly": {key: value for key, value in figures.items() if value is not None}}


def _range(told: Mapping[str, Any], of: str) -> Optional[float]:
    low, high = _number(told.get(f"{of}min")), _number(told.get(f"{of}max"))
    return high - low if low is not None and high is not None and high > low else None


def _numbers(text: str) -> List[float]:
    """Numbers with spaces between; none where one is not."""
    numbers = [_number(word) for word in text.split()]
    return [number for number in numbers if number is not None] if None not in numbers else []


def _number(value: Any) -> Optional[float]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None
