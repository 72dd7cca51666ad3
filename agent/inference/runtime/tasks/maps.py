"""Maps: one number for each pixel that is no probability of a class, as depth or how much belongs to the foreground.

=========  ================================  ========================================================================
kind       names                             what the numbers are
=========  ================================  ========================================================================
``depth``  depth, disparity, midas           relative inverse depth (MiDaS, Depth Anything): larger is nearer, without
                                             a unit; 0 and 255 are the least and the greatest of each frame
``alpha``  alpha, matte, matting, pha        the foreground's share of each pixel, 0 to 1
``other``                                    whatever they are: the least and the greatest of each frame
=========  ================================  ========================================================================

The last is taken where nothing is named and the numbers are no probabilities.
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime.base import FITS, NAMED, Claim, Geometry, Labels, Network, Prediction, Task, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options
from agent.inference.runtime.planes import covering, scaled
from agent.inference.runtime.tasks import dense
from agent.inference.runtime.tasks.activation import finite

__all__ = ["Maps"]

_NAMES: Mapping[str, str] = {
    "depth": r"depth|dispar|midas",
    "alpha": r"alpha|matt(e|ing)|\bpha\b",
}
_LIMITS: Mapping[str, Tuple[Optional[float], Optional[float]]] = {"alpha": (0.0, 1.0)}
"""What 0 and 255 stand for, where that is not of each frame."""
_TOLERANCE = 0.01
_PLANES, _COLOURS = 4, 3


class Maps(Task):
    """Option ``decoder``: depth, alpha or other."""

    name = "map"

    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        read = Options(options)
        network = Network(inputs, outputs, labels)
        found = dense.find(network)
        if found is None or found.classes != 1:
            raise ModelError(
                "outputs-not-recognised",
                f"a map is one number for each pixel; the network has outputs {network}",
                hint="export the model with one output [1,1,H,W], [1,H,W,1] or [1,H,W]",
            )
        self._found = found
        self.decoder = read.choice("decoder", _kind(network) or "other", (*_NAMES, "other"))
        self._limits = _LIMITS.get(self.decoder, (None, None))
        read.done()

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """One plane, by its names or as large as the network's picture; three are a picture, and no map."""
        found, kind = dense.find(network), _kind(network)
        if _is_picture(network):
            why, wrong = (
                "its output has three planes",
                "a picture is no prediction: take it as a tensor, or by your own code",
            )
            return [Claim(FITS, why, against=wrong)]
        if found is None or found.classes != 1 or found.is_whole or "anomaly" in dense.words(network):
            return []
        feed = {} if kind == "alpha" else dense.IMAGENET
        if kind:
            return [Claim(NAMED, f"its names say {kind}, and it has a number for each pixel", {"decoder": kind}, feed)]
        if found.is_as_large(network.size):
            return [Claim(FITS, "it has one number for each pixel", {"decoder": "other"}, feed)]
        return []

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """Shares above 1; planes of another size, where nothing is named."""
        values = finite(self._found.read(outputs).astype(np.float32))
        if self.decoder == "alpha" and not -_TOLERANCE <= values.min() <= values.max() <= 1 + _TOLERANCE:
            return f"its numbers go from {values.min():.4g} to {values.max():.4g}, and are no shares"
        if strength == FITS and values.shape != (geometry.network_height, geometry.network_width):
            return "its places are not those of its picture, and nothing names them"
        return ""

    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """One map."""
        values = finite(self._found.read(outputs).astype(np.float32))
        least = values.min()  # what the network did not see is as far as it gets
        pixels, low, high = scaled(covering(values - least, geometry) + least, *self._limits)
        return [{"map": pixels, "minimum": low, "maximum": high}]


def _is_picture(network: Network) -> bool:
    """Whether the output may be the picture again, restored or enlarged."""
    shape = network.outputs[0].shape
    return len(network.outputs) == 1 and len(shape) == _PLANES and (shape[1] == _COLOURS or shape[3] == _COLOURS)


def _kind(network: Network) -> str:
    text = dense.words(network)
    return next((kind for kind, pattern in _NAMES.items() if re.search(pattern, text)), "")
