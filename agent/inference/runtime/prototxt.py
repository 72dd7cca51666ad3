"""What a Caffe network's description (``.prototxt``) says of the picture that it reads: text protobuf, looked through.

The size stands in front: in ``input_shape``, in four ``input_dim``, or in the first layer's ``input_param``.
"""

from __future__ import annotations

import re
from typing import Tuple

__all__ = ["picture"]

_LIMIT = 1 << 20
_SIDES = 4
_DIM = re.compile(r"\b(?:input_)?dim\s*:\s*([0-9]{1,6})\b")


def picture(path: str) -> Tuple[int, ...]:
    """The shape [batch, channels, height, width] of the input; four times -1 where the file does not say it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(_LIMIT)
    found = [int(side) for side in _DIM.findall(text)[:_SIDES]]
    return tuple(found) if len(found) == _SIDES else (-1,) * _SIDES
