"""The stages of MTCNN, which answer for the crops of the stage before: alone each is no detector, and is named as that.

=========  ==============================================================================
P-Net      planes of 2 scores and 4 offsets: of a pyramid of pictures
R-Net      2 scores and 4 offsets: of a crop of 24 × 24
O-Net      2 scores, 4 offsets and 10 numbers of five points: of a crop of 48 × 48
=========  ==============================================================================
"""

from __future__ import annotations

from typing import Optional

from agent.inference.runtime.base import NAMED, Claim, Network

__all__ = ["stage"]

_VECTORS = {(2, 4): "R-Net", (2, 4, 10): "O-Net"}
_SIZES = {"R-Net": 24, "O-Net": 48}
_VECTOR, _PLANES = 2, 4


def stage(network: Network) -> Optional[Claim]:
    """What speaks for a stage of MTCNN, and why it is not read alone."""
    name = _name(network)
    if name is None:
        return None
    why = f"its outputs are those of MTCNN's {name}"
    wrong = "that is one stage of a cascade, which answers for the crops of the stage before; it detects nothing alone"
    return Claim(NAMED, why, {"decoder": f"mtcnn-{name[0].lower()}net"}, against=wrong)


def _name(network: Network) -> Optional[str]:
    shapes = [info.shape for info in network.outputs]
    if all(len(shape) == _VECTOR for shape in shapes):
        name = _VECTORS.get(tuple(sorted(shape[1] for shape in shapes)))
        return name if name and network.size in (None, (_SIZES[name], _SIZES[name])) else None
    if len(shapes) == 2 and all(len(shape) == _PLANES for shape in shapes):  # noqa: PLR2004 - scores and offsets
        last, first = (sorted(shape[axis] for shape in shapes) for axis in (3, 1))
        return "P-Net" if [2, 4] in (last, first) else None
    return None
