"""From what a network answers to probabilities: the checks and functions that every task needs."""

from __future__ import annotations

import numpy as np

from agent.inference.runtime.errors import ModelError

__all__ = ["ACTIVATIONS", "finite", "logit", "probabilities", "sigmoid", "softmax"]

ACTIVATIONS = ("auto", "none", "softmax", "sigmoid")

# Dequantised 8-bit probabilities are each off by up to 1/512; over many classes the errors mostly cancel.
_SUM_TOLERANCE = 0.05


def finite(values: np.ndarray) -> np.ndarray:
    """``values`` if they are all finite; raises ``ModelError`` otherwise."""
    if np.isfinite(values).all():
        return values
    raise ModelError(
        "model-output-not-finite",
        "the network answered with numbers that are not finite",
        hint="check mean and std in the manifest's [input], and the model file",
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
    if activation == "softmax" or (activation == "auto" and not _is_distribution(values)):
        return softmax(values)
    return values


def _is_distribution(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1 and abs(float(values.sum()) - 1) <= _SUM_TOLERANCE)
