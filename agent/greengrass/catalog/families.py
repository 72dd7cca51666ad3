"""The inference components that Greengrass publishes, and what sets them apart.

Archives are keyed by the device as ``ModelResourceKey`` names it: by processor for compiled models, ``model`` for
TensorFlow Lite's, which run anywhere.  A family's ``picture`` is the sample picture of Verge that stands for AWS's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["FAMILIES", "PICTURES", "Family"]

PICTURES: Final[Mapping[str, str]] = {
    "cat.jpeg": "chelsea.jpg",
    "cat.npy": "chelsea.jpg",
    "objects.jpg": "astronaut.jpg",
    "objects.jpeg": "astronaut.jpg",
    "objects.npy": "astronaut.jpg",
}
"""The names of AWS's sample pictures → those of ours that show the like; they count in the samples' folder only."""

_THRESHOLD, _TOP_K = 0.3, 5
_PLACES: Final = {"armv7l": "armv7l", "aarch64": "aarch64", "x86_64": "x86_64", "windows": "win"}


@dataclass(frozen=True, slots=True)
class Family:
    """One inference component, whatever its version."""

    sample: str
    """The model that ships with the agent for it."""
    topic: str
    image: str
    archives: Mapping[str, str]
    format: str
    store: str
    store_range: str
    runtime: str
    runtime_range: str
    options: Mapping[str, Any]
    """The task's, as AWS's code has them for constants."""


def _classifier() -> dict[str, Any]:
    return {"threshold": _THRESHOLD, "top_k": _TOP_K}


def _detector() -> dict[str, Any]:
    # A detector's top_k are the candidates before suppression.
    return {"threshold": _THRESHOLD, "max_detections": _TOP_K}


def _compiled(network: str, task: str) -> dict[str, str]:
    return {key: f"DLR-{network}-{place}-cpu-{task}" for key, place in _PLACES.items()}


_TFLITE_RANGES: Final = {"store_range": ">=2.1.0 <2.2.0", "runtime_range": ">=2.5.0 <2.6.0"}
_DLR_RANGES: Final = {"store_range": "~2.1.0", "runtime_range": "~1.6.0"}

_TFLITE_DETECTION = Family(
    sample="detector",
    topic="ml/tflite/object-detection",
    image="objects.jpg",
    archives={"model": "TensorFlowLite-SSD"},
    format="aws",
    store="variant.TensorFlowLite.ObjectDetection.ModelStore",
    runtime="variant.TensorFlowLite",
    options=_detector(),
    **_TFLITE_RANGES,
)

FAMILIES: Final[Mapping[str, Family]] = {
    "aws.greengrass.TensorFlowLiteImageClassification": Family(
        sample="classifier",
        topic="ml/tflite/image-classification",
        image="cat.jpeg",
        archives={"model": "TensorFlowLite-Mobilenet"},
        format="aws",
        store="variant.TensorFlowLite.ImageClassification.ModelStore",
        runtime="variant.TensorFlowLite",
        options=_classifier(),
        **_TFLITE_RANGES,
    ),
    "aws.greengrass.TensorFlowLiteObjectDetection": _TFLITE_DETECTION,
    # The published recipe spells it so, the documentation as above.
    "aws.greengrass.TensorFlowliteObjectDetection": _TFLITE_DETECTION,
    "aws.greengrass.DLRImageClassification": Family(
        sample="classifier",
        topic="ml/dlr/image-classification",
        image="cat.jpeg",
        archives=_compiled("resnet50", "ImageClassification"),
        format="aws-dlr",
        store="variant.DLR.ImageClassification.ModelStore",
        runtime="variant.DLR",
        options=_classifier(),
        **_DLR_RANGES,
    ),
    "aws.greengrass.DLRObjectDetection": Family(
        sample="detector",
        topic="ml/dlr/object-detection",
        image="objects.jpg",
        archives=_compiled("yolo3", "ObjectDetection"),
        format="aws-dlr",
        store="variant.DLR.ObjectDetection.ModelStore",
        runtime="variant.DLR",
        options=_detector(),
        **_DLR_RANGES,
    ),
}
