"""What a model's manifest says of the picture that its network reads, strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

import cv2
import numpy as np

from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options

__all__ = ["COLORS", "INTERPOLATIONS", "LAYOUTS", "RESIZES", "InputSpec"]

LAYOUTS = ("NHWC", "NCHW")
COLORS: Mapping[str, Optional[int]] = {"RGB": cv2.COLOR_BGR2RGB, "BGR": None, "GRAY": cv2.COLOR_BGR2GRAY}
RESIZES = ("stretch", "crop", "letterbox")
INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}
YOLO_GREY = 114
_MAX_SIDE = 8192


@dataclass(frozen=True)
class InputSpec:
    """A manifest's ``[input]``: what is said of the network's picture; ``auto`` and None ask the model file."""

    width: Optional[int] = None
    height: Optional[int] = None
    layout: str = "auto"
    color: str = "auto"
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    """The network reads (pixel - mean) / std, one number for all channels or one for each, in ``color``'s order.

    The manifest may say ``scale`` in place of ``std``: (pixel - mean) × scale.
    """
    resize: str = "stretch"
    interpolation: str = "linear"
    pad: Tuple[float, ...] = (YOLO_GREY,)
    """The pixel around a letterboxed picture."""
    file: Mapping[str, Any] = field(default_factory=dict)
    """What the model file's metadata tells, for what the manifest leaves open."""

    @classmethod
    def parse(cls, told: Mapping[str, Any], metadata: Optional[Mapping[str, Any]] = None) -> InputSpec:
        """The manifest's ``input`` table, strictly; raises ``ModelError`` naming the key and its nearest kin."""
        numbers = ("mean", "std", "scale", "pad")
        listed = {key: [value] if key in numbers and _is_number(value) else value for key, value in told.items()}
        options = Options(listed, "input")
        mean, std, scale = (_numbers(options, key) for key in ("mean", "std", "scale"))
        if std and scale:
            raise ModelError("options-wrong", "input says both std and scale", "scale is 1 / std: give one of them")
        spec = cls(
            width=options.integer("width", 0, 0, _MAX_SIDE) or None,
            height=options.integer("height", 0, 0, _MAX_SIDE) or None,
            layout=options.choice("layout", "auto", ("auto", *LAYOUTS)),
            color=options.choice("color", "auto", ("auto", *COLORS)),
            mean=mean,
            std=tuple(1 / factor for factor in scale) if scale else std,
            resize=options.choice("resize", cls.resize, RESIZES),
            interpolation=options.choice("interpolation", cls.interpolation, tuple(INTERPOLATIONS)),
            pad=_numbers(options, "pad") or cls.pad,
            file=dict(metadata or {}),
        )
        options.done()
        return spec


def _numbers(options: Options, key: str) -> Optional[Tuple[float, ...]]:
    low = {"mean": -np.inf, "pad": -1.0}.get(key, 0.0)
    values = options.numbers(key, (1.0,), low)
    return values if key in options else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
