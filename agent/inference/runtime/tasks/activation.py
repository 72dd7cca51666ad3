"""From what a network answers to probabilities: the checks and functions that every task needs."""

from __future__ import annotations

import re

import numpy as np

from agent.inference.runtime.errors import ModelError

__all__ = [
    "ACTIVATIONS",
    "LARGEST_SCORE",
    "finite",
    "is_distribution",
    "logit",
    "no_scores",
    "probabilities",
    "sigmoid",
    "softmax",
    "within_one",
]

ACTIVATIONS = ("auto", "none", "softmax", "sigmoid")

# Dequantised 8-bit probabilities are each off by up to 1/512; over many classes the errors mostly cancel.
_SUM_TOLERANCE = 0.05
LARGEST_SCORE = 1.01
"""What rounding makes of 1, that of 8-bit outputs too."""


_PLACES = ("bbox", "bboxes", "box", "boxes", "corners", "coords", "landmarks", "keypoints", "kpts", "points")
_ANGLES = ("pose", "headpose", "yaw", "pitch", "roll", "angle", "angles", "gaze", "quaternion", "rotation")
_VECTORS = ("flow", "flows", "offset", "offsets", "displacement", "motion", "uv", "ab", "normal", "normals", "grid")
_NO_SCORES = frozenset((*_PLACES, *_ANGLES, *_VECTORS))
"""How numbers are called that are places, angles or directions, whatever range they lie in."""


def no_scores(name: str) -> str:
    """What speaks against an output's numbers being scores, by what it is called; empty where nothing does.

    >>> no_scores("pred_bbox")
    'its output is called pred_bbox'
    """
    words = re.split("[^a-z]+", name.lower())
    return f"its output is called {name}" if _NO_SCORES.intersection(words) else ""


def finite(values: np.ndarray) -> np.ndarray:
    """``values`` if they are all finite; raises ``ModelError`` otherwise."""
    if np.isfinite(values).all():
        return values
    raise ModelError(
        "model-output-not-finite",
        "the network answered with numbers that are not finite",
        hint="check mean and std in the manifest's [input], and the model file",
    )


def within_one(scores: np.ndarray) -> None:
    """Raise ``ModelError`` for what is no score: published, it would be believed."""
    largest = scores.max(initial=0.0)
    if largest > LARGEST_SCORE:
        raise ModelError(
            "scores-wrong",
            f"the network answered with a score of {largest:.4g}, and no score is above 1",
            hint='say options.activation = "sigmoid" or "softmax" if these are logits, or another task or decoder',
        )


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow at either end."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))


def logit(probability: float) -> float:
    """The number whose sigmoid is ``probability``; infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))


def softmax(values: np.ndarray) -> np.ndarray:
    """exp(x) / Σ exp(x) over the last axis, without overflow."""
    with np.errstate(invalid="ignore"):  # infinity becomes NaN, which the reader of the scores reports
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def probabilities(values: np.ndarray, activation: str) -> np.ndarray:
    """``values`` through ``activation``; ``auto`` is softmax unless they are probabilities already."""
    if activation == "sigmoid":
        return sigmoid(values)
    if activation == "softmax" or (activation == "auto" and not is_distribution(values)):
        return softmax(values)
    return values


def is_distribution(values: np.ndarray) -> bool:
    """Whether the values are probabilities of which one is true: in [0, 1], and their sum is 1."""
    return bool(values.min() >= 0 and values.max() <= 1 and abs(float(values.sum()) - 1) <= _SUM_TOLERANCE)
