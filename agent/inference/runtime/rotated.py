"""How far turned boxes overlap, and which of them remain.

A box is taken for a Gaussian, and two overlap as far as their Gaussians are alike: one less their Hellinger distance
(Llerena and others, "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union", 2021).  With u and v the
sides of a box as vectors, its covariance is (u uᵀ + v vᵀ) / 12, and with S the sum of two covariances and d from one
centre to the other, the distance between the Gaussians (Bhattacharyya's) is
dᵀ S⁻¹ d / 4 + ln(|S| / (4 √(|S₁| |S₂|))) / 2.  That is the same in every unit, so boxes may be in fractions.
"""

from __future__ import annotations

import numpy as np

__all__ = ["overlaps", "remaining"]

_LEAST = 1e-12


def remaining(corners: np.ndarray, groups: np.ndarray, iou: float) -> np.ndarray:
    """Indices, in order, of the boxes [N, 4, 2] (best first) that no better one of their group overlaps so far.

    A box that is itself suppressed suppresses others, too, as in the code of the networks that find turned boxes.
    """
    covered = (overlaps(corners) >= iou) & (groups[:, None] == groups[None, :])
    return np.flatnonzero(~np.triu(covered, 1).any(axis=0))


def overlaps(corners: np.ndarray) -> np.ndarray:
    """[N, N] how far each box of [N, 4, 2], corners in turn, overlaps each: 1 is the same."""
    points = corners.astype(np.float64)
    centres = points.mean(axis=1)
    across, down = points[:, 1] - points[:, 0], points[:, 3] - points[:, 0]
    a, b = ((across**2 + down**2) / 12).T
    c = (across[:, 0] * across[:, 1] + down[:, 0] * down[:, 1]) / 12
    own = np.maximum(a * b - c**2, 0.0)
    a, b, c = (each[:, None] + each[None, :] for each in (a, b, c))
    both = np.maximum(a * b - c**2, np.finfo(np.float64).tiny)
    x, y = (each[:, None] - each[None, :] for each in centres.T)
    apart = (b * x**2 - 2 * c * x * y + a * y**2) / both / 4
    alike = np.log(np.maximum(both / np.maximum(4 * np.sqrt(own[:, None] * own[None, :]), _LEAST * both), 1.0)) / 2
    return np.asarray(1 - np.sqrt(1 - np.exp(-(apart + alike))))
