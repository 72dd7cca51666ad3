"""From a decoded picture to a network's input.

The picture is placed (``framing.py``) and turned to the network's colours while its pixels are still bytes;
then one table look-up per channel does everything else at once: mean, standard deviation, quantisation,
rounding, clipping and the change of type.  A pixel has 256 values, so the table holds the formula exactly,
and looking up is as fast as the arithmetic (0.1 ms for 224 × 224).

Linear and cubic interpolation look at a few pixels only and alias when they shrink a picture further than
by half.  A larger one is therefore halved first, which is what JPEG's reduced decoding has done already: a
picture gives the same answer however it was encoded, and whether it was decoded at full scale or not.

What is said of the input (``inputspec.py``) is held against the tensor here.  Where nobody says how pixels
become numbers:

=========================  =====================================================================
floats                     0 … 1, what YOLO exports and most PyTorch models read
8-bit, quantised or not    the pixel itself (int8: pixel - 128), what full-range calibration gives
wider, quantised           0 … 1, quantised
wider, not quantised       the pixel itself
=========================  =====================================================================

The file and the family speak of real numbers: to integers that stand for none, and to 8-bit ones, only the
manifest's mean and standard deviation are applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Tuple

import cv2
import numpy as np

from agent.inference.runtime import framing
from agent.inference.runtime.base import Geometry, TensorInfo
from agent.inference.runtime.decode import Decoded
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.framing import Framing, Way
from agent.inference.runtime.inputspec import COLORS, INTERPOLATIONS, LAYOUTS, MANIFEST, Fact, InputSpec

__all__ = ["SHAPE", "USUAL", "InputSpec", "Preprocessor"]

SHAPE, USUAL = "shape", "usual"
"""Who says what is neither the manifest's, the file's nor the family's: the tensor's own shape, or nobody."""
_CARRIERS = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.float64}
"""Types that OpenCV's table look-up moves in every version, by size in bytes."""
_RANKS = (3, 4)
_OF_RESIZE: Mapping[str, Tuple[str, ...]] = {
    "crop": ("crop",),
    "letterbox": ("place", "pad", "upscale"),
    "shortest": ("max_side", "multiple", "upscale", "downscale"),
    "longest": ("max_side", "multiple", "upscale", "downscale"),
    "height": ("max_side", "multiple", "place", "pad"),
}
"""What else is to be known of a way of resizing."""


class Preprocessor:
    """Turns decoded pictures into one network's input.

    The array returned is the same one at each call of the same shape: hand it to one ``run`` before asking for the
    next.
    """

    def __init__(self, spec: InputSpec, tensor: TensorInfo) -> None:
        """Check what is said against the file's tensor; raises ``ModelError`` where they disagree or leave a gap."""
        planes = _Planes.of(spec, tensor)
        normalisation = _Normalisation.of(spec, tensor, planes.channels)
        self._way = planes.way
        self._tables = _Tables(tensor, normalisation)
        self._planes = planes
        self._pad = _pad(spec, planes.color)
        self._interpolation = INTERPOLATIONS[spec.interpolation]
        self._halves = spec.interpolation in ("linear", "cubic")
        self._canvas: Optional[_Canvas] = None
        self._key: Tuple[int, ...] = ()
        self.cover = framing.cover(self._way)
        """The (width, height) that a picture's pixels should have at least; None asks for all of them."""
        self.facts = _facts(spec, planes, normalisation)
        """Everything that settles the input, and who says it."""

    def __call__(self, decoded: Decoded) -> Tuple[np.ndarray, Geometry]:
        """The network's input for a picture, and how it lies in the frame."""
        placed = self._framed(decoded)
        canvas = self._canvas
        if canvas is None or canvas.size != placed.canvas:
            canvas = self._canvas = _Canvas(placed.canvas, self._planes, self._tables, self._pad)
        x, y, width, height = placed.part
        self._resize(decoded.pixels[y : y + height, x : x + width], canvas.inside(placed.inside))
        return canvas.array(), placed.geometry

    def _framed(self, decoded: Decoded) -> Framing:
        """How the picture is placed; a camera's frames all lie the same."""
        rows, columns = decoded.pixels.shape[:2]
        key = (columns, rows, decoded.width, decoded.height)
        if key != self._key:
            self._last = framing.framed(self._way, (columns, rows), (decoded.width, decoded.height))
            self._key = key
        return self._last

    def _resize(self, pixels: np.ndarray, into: np.ndarray) -> None:
        height, width = into.shape[:2]
        while self._halves and pixels.shape[0] >= 2 * height and pixels.shape[1] >= 2 * width:
            half = ((pixels.shape[1] + 1) // 2, (pixels.shape[0] + 1) // 2)
            pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_LINEAR)
        cv2.resize(pixels, (width, height), dst=into, interpolation=self._interpolation)


@dataclass(frozen=True)
class _Planes:
    """Where a picture's rows, columns and channels lie in a tensor, and which colours they are."""

    way: Way
    planar: bool
    color: str
    batch: Tuple[int, ...]
    sources: Dict[str, str]

    @classmethod
    def of(cls, spec: InputSpec, tensor: TensorInfo) -> _Planes:
        if len(tensor.shape) not in _RANKS:
            _no_picture(tensor)
        *batch, first, second, third = tensor.shape
        if any(size not in (-1, 1) for size in batch):
            raise ModelError(
                "input-unsupported", f"{_shape(tensor)} wants a batch", "export the model for a batch of 1"
            )
        planar = spec.layout == "NCHW" if spec.layout != "auto" else _is_planar(first, third, tensor)
        channels, height, width = (first, second, third) if planar else (third, first, second)
        color = _color(spec, channels, tensor)
        sources = {
            "width": SHAPE if width > 0 else spec.sources.get("width", USUAL),
            "height": SHAPE if height > 0 else spec.sources.get("height", USUAL),
            "layout": spec.sources.get("layout", SHAPE),
            "color": spec.sources.get("color", USUAL) if color == spec.color else SHAPE if channels == 1 else USUAL,
        }
        way = Way(
            width=_side("width", spec, width, tensor),
            height=_side("height", spec, height, tensor),
            open_width=width < 0,
            open_height=height < 0,
            resize=spec.resize,
            place=spec.place,
            crop=spec.crop,
            upscale=spec.upscale,
            downscale=spec.downscale,
            multiple=spec.multiple,
            max_side=max(spec.max_side, spec.multiple),
        )
        return cls(way, planar, color, (1,) * len(batch), sources)

    @property
    def channels(self) -> int:
        """How many there are."""
        return 1 if self.color == "GRAY" else 3

    def shape(self, width: int, height: int) -> Tuple[int, ...]:
        """The tensor's shape for a canvas of that size."""
        sizes = (self.channels, height, width) if self.planar else (height, width, self.channels)
        return (*self.batch, *sizes)


class _Tables:
    """What the network stores for each of a pixel's 256 values, channel by channel."""

    def __init__(self, tensor: TensorInfo, normalisation: _Normalisation) -> None:
        tables = [_table(tensor, mean, std) for mean, std in zip(normalisation.mean, normalisation.std)]
        self.dtype = tables[0].dtype
        self.carrier = _CARRIERS[self.dtype.itemsize]
        self.each = [table.view(self.carrier) for table in tables]
        same = all(np.array_equal(table, tables[0]) for table in tables)
        self.together = self.each[0] if same else np.dstack(self.each).reshape(1, 256, len(tables))
        self.is_identity = self.dtype == np.uint8 and same and np.array_equal(tables[0], np.arange(256))


class _Canvas:
    """The network's picture of one size in the making: bytes of BGR, and the array that they are turned into."""

    def __init__(self, size: Tuple[int, int], planes: _Planes, tables: _Tables, pad: np.ndarray) -> None:
        width, height = self.size = size
        self._tables, self._pad = tables, pad
        self._box = (0, 0, 0, 0)
        self._picture = np.empty((height, width, 3), np.uint8)
        self._array = np.zeros(planes.shape(width, height), tables.dtype)
        target = self._array.view(tables.carrier)
        self._color = COLORS[planes.color]
        self._bytes: List[np.ndarray]
        self._targets: List[np.ndarray]
        if planes.channels == 1:
            self._write = self._grey
            self._bytes = [np.empty((height, width), np.uint8)]
            self._targets = [target.reshape(height, width)]
        elif planes.planar:
            self._write = self._planar
            self._bytes = [np.empty((height, width), np.uint8) for _ in range(3)]
            self._targets = [*target.reshape(3, height, width)]
        else:
            self._write = self._exact if tables.is_identity else self._interleaved
            self._bytes = [np.empty((height, width, 3), np.uint8)]
            self._targets = [target.reshape(height, width, 3)]

    def inside(self, box: Tuple[int, int, int, int]) -> np.ndarray:
        """The pixels of that part, to be drawn on; around them is padding."""
        x, y, width, height = box
        if self._box != box:
            self._box = box
            self._picture[:] = self._pad
        return self._picture[y : y + height, x : x + width]

    def array(self) -> np.ndarray:
        """What was drawn, as the network reads it."""
        self._write()
        return self._array

    def _grey(self) -> None:
        grey = cv2.cvtColor(self._picture, cv2.COLOR_BGR2GRAY, dst=self._bytes[0])
        cv2.LUT(grey, self._tables.each[0], dst=self._targets[0])

    def _planar(self) -> None:
        # Into arrays that are there: new ones of a large picture cost more than all the rest.
        planes = cv2.split(self._picture, self._bytes)
        for plane, table, target in zip(
            planes if self._color is None else planes[::-1], self._tables.each, self._targets
        ):
            cv2.LUT(plane, table, dst=target)

    def _interleaved(self) -> None:
        cv2.LUT(self._colored(self._bytes[0]), self._tables.together, dst=self._targets[0])

    def _exact(self) -> None:
        """The pixels themselves."""
        if self._color is None:
            np.copyto(self._targets[0], self._picture)
        else:
            self._colored(self._targets[0])

    def _colored(self, into: np.ndarray) -> np.ndarray:
        return self._picture if self._color is None else cv2.cvtColor(self._picture, self._color, dst=into)


def _table(tensor: TensorInfo, mean: float, std: float) -> np.ndarray:
    """What the network stores for each of a pixel's 256 values."""
    dtype = np.dtype(tensor.dtype)
    values: np.ndarray = (np.arange(256) - mean) / std
    if dtype.kind not in "iu":
        return values.astype(dtype)
    if tensor.scale is not None:
        values = values / tensor.scale + tensor.zero_point
    limits = np.iinfo(dtype)
    table: np.ndarray = np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return table


def _pad(spec: InputSpec, color: str) -> np.ndarray:
    """The pixel around a letterboxed picture, as BGR bytes."""
    if not all(value in range(256) for value in spec.pad):
        _wrong(f"input.pad is {list(spec.pad)}", "give whole numbers from 0 to 255")
    pad = _each("pad", spec.pad, 1 if color == "GRAY" else 3)
    return np.array(pad[::-1] if color == "RGB" else pad, np.uint8)


@dataclass(frozen=True)
class _Normalisation:
    """The mean and the standard deviation of each channel."""

    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    source: str

    @classmethod
    def of(cls, spec: InputSpec, tensor: TensorInfo, channels: int) -> _Normalisation:
        """As somebody says who may, or as usual for the type; the module's docstring has the table of defaults."""
        dtype = _dtype(tensor)
        source = spec.sources.get("mean") or spec.sources.get("std") or USUAL
        is_real = dtype.kind == "f" or (tensor.scale is not None and dtype.itemsize > 1)
        if source == MANIFEST or (source != USUAL and is_real):
            mean, std = spec.mean or (0.0,), spec.std or (1.0,)
            return cls(_each("mean", mean, channels), _each("std", std, channels), source)
        usual_mean, usual_std = _usual(tensor, dtype)
        return cls((usual_mean,) * channels, (usual_std,) * channels, USUAL)


def _usual(tensor: TensorInfo, dtype: np.dtype) -> Tuple[float, float]:
    """(mean, std) of the module's table."""
    if dtype.kind == "f":
        return 0.0, 255.0
    if dtype.itemsize == 1:
        lowest = float(np.iinfo(dtype).min)
        return (0.0 - lowest, 1.0) if tensor.scale is None else (tensor.zero_point - lowest, 1 / tensor.scale)
    return 0.0, 255.0 if tensor.scale is not None else 1.0


def _dtype(tensor: TensorInfo) -> np.dtype:
    """The tensor's type; raises ``ModelError`` for one that holds no pixels."""
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiu" or dtype.itemsize not in _CARRIERS:
        raise ModelError("input-unsupported", f"{_shape(tensor)} holds no pixels", "export it for float32 or uint8")
    return dtype


def _each(key: str, values: Tuple[float, ...], channels: int) -> Tuple[float, ...]:
    if len(values) not in (1, channels):
        _wrong(
            f"input.{key} has {len(values)} numbers for {channels} channels", "give one number, or one for each channel"
        )
    return tuple(values) * (channels if len(values) == 1 else 1)


def _is_planar(first: int, third: int, tensor: TensorInfo) -> bool:
    if third in (1, 3):
        return False
    if first in (1, 3):
        return True
    _wrong(f"{_shape(tensor)}: which axis holds the colours?", f"give input.layout: {' or '.join(LAYOUTS)}")


def _color(spec: InputSpec, channels: int, tensor: TensorInfo) -> str:
    known = spec.color if spec.color != "auto" else "RGB"
    if spec.sources.get("color") != MANIFEST and channels in (1, 3):
        known = "GRAY" if channels == 1 else known.replace("GRAY", "RGB")
    if channels not in (-1, 1 if known == "GRAY" else 3):
        _wrong(f"{_shape(tensor)} has not the channels of a {known} picture", "check input.color and input.layout")
    return known


def _side(key: str, spec: InputSpec, tensor_side: int, tensor: TensorInfo) -> int:
    said: Optional[int] = getattr(spec, key)
    if tensor_side > 0:
        if spec.sources.get(key) == MANIFEST and said != tensor_side:
            _wrong(f"input.{key} is {said}, but the file has {_shape(tensor)}", f"leave input.{key} out")
        return tensor_side
    if spec.resize == "height" and key == "width":
        return said or 1
    if not said:
        _wrong(f"{_shape(tensor)} leaves the {key} open", f"choose one with input.{key}")
    return -(-said // spec.multiple) * spec.multiple


def _facts(spec: InputSpec, planes: _Planes, normalisation: _Normalisation) -> Tuple[Fact, ...]:
    """What holds, in the order in which a person asks for it."""
    way, sources = planes.way, {**spec.sources, **planes.sources}
    values: Dict[str, Any] = {
        "width": way.width,
        "height": way.height,
        "layout": "NCHW" if planes.planar else "NHWC",
        "color": planes.color,
        "mean": _short(normalisation.mean),
        "std": _short(normalisation.std),
        "resize": spec.resize,
        **{key: _short(getattr(spec, key)) for key in _OF_RESIZE.get(spec.resize, ())},
        "interpolation": spec.interpolation,
    }
    sources.update(mean=normalisation.source, std=normalisation.source)
    return tuple(Fact(key, value, sources.get(key, USUAL)) for key, value in values.items())


def _short(value: Any) -> Any:
    """One number where all of several are the same."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _wrong(message: str, hint: str) -> NoReturn:
    raise ModelError("options-wrong", message, hint)


def _no_picture(tensor: TensorInfo) -> NoReturn:
    hint = "give a model that reads one picture: height, width and colours"
    if len(tensor.shape) > _RANKS[-1]:
        hint = "networks that read several frames at once, or volumes, are not run: " + hint
    raise ModelError("input-unsupported", f"{_shape(tensor)} is no picture", hint)


def _shape(tensor: TensorInfo) -> str:
    return f"the input {tensor.name!r} of {tensor.dtype} {list(tensor.shape)}"
