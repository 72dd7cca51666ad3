"""The anchor boxes of SSD networks, and the decoding of boxes relative to them.

A network with anchors answers, per anchor, how far the object's box is from it.  Anchors lie on one grid
per feature map, coarser maps carrying larger ones; per cell they follow the order of the TensorFlow
Object Detection API: each aspect ratio at the map's scale, then a square at the geometric mean with the
next map's scale.  With ``reduce_lowest`` the finest map has three per cell: a small square and two
elongated boxes.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

from agent.inference.runtime.boxes import from_centres

__all__ = ["decode", "maps", "ssd"]

_LAYERS = 6
_FIRST_STRIDE = 16
_LOWEST = ((0.1, 1.0), (None, 2.0), (None, 0.5))

# A box e¹⁰ times as large as its anchor covers any picture; beyond it exp() would overflow.
_MAX_LOG = 10.0


def maps(height: int, width: int) -> List[Tuple[int, int]]:
    """The feature maps (height, width) of the usual six-layer SSD; an input of 300 has 19, 10, 5, 3, 2, 1."""
    sizes = [(-(-height // _FIRST_STRIDE), -(-width // _FIRST_STRIDE))]
    while len(sizes) < _LAYERS:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def ssd(
    sizes: Sequence[Tuple[int, int]],
    *,
    min_scale: float,
    max_scale: float,
    ratios: Sequence[float],
    reduce_lowest: bool,
    interpolated: bool,
    aspect: float = 1.0,
) -> np.ndarray:
    """Anchors [N, 4] as (centre y, centre x, height, width) in fractions; ``aspect`` is the input's width / height."""
    steps = max(len(sizes) - 1, 1)
    scales = [min_scale + (max_scale - min_scale) * step / steps for step in range(len(sizes))] + [1.0]
    layers = []
    for layer, (rows, columns) in enumerate(sizes):
        scale, following = scales[layer], scales[layer + 1]
        if layer == 0 and reduce_lowest:
            shapes = [(scale if small is None else small, ratio) for small, ratio in _LOWEST]
        else:
            shapes = [(scale, ratio) for ratio in ratios]
            shapes += [((scale * following) ** 0.5, 1.0)] if interpolated else []
        layers.append(_grid(rows, columns, _extents(shapes, aspect)))
    return np.concatenate(layers).astype(np.float32)


def decode(encodings: np.ndarray, anchors: np.ndarray, scale: Sequence[float]) -> np.ndarray:
    """Corners [N, 4] from encodings (ty, tx, th, tw) relative to their anchors; ``scale`` divides the four."""
    ty, tx, th, tw = (encodings / np.asarray(scale, dtype=np.float64)).T
    centre_y, centre_x, height, width = anchors.T
    return from_centres(
        tx * width + centre_x,
        ty * height + centre_y,
        np.exp(np.minimum(tw, _MAX_LOG)) * width,
        np.exp(np.minimum(th, _MAX_LOG)) * height,
    )


def _extents(shapes: Sequence[Tuple[float, float]], aspect: float) -> np.ndarray:
    """(height, width) of each anchor; a scale is a fraction of the picture's shorter side."""
    tall, wide = min(1.0, aspect), min(1.0, 1.0 / aspect)
    return np.array([(scale / ratio**0.5 * tall, scale * ratio**0.5 * wide) for scale, ratio in shapes])


def _grid(rows: int, columns: int, extents: np.ndarray) -> np.ndarray:
    """Every extent at every cell's centre, row by row: [rows × columns × len(extents), 4]."""
    boxes = np.empty((rows, columns, len(extents), 4))
    boxes[..., 0] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
    boxes[..., 1] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
    boxes[..., 2:] = extents
    return boxes.reshape(-1, 4)
