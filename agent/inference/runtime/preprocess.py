"""From a decoded picture to a network's input.

The picture is placed (stretched, cropped or letterboxed) and turned to the network's colours while its
pixels are still bytes; then one table look-up per channel does everything else at once: mean, standard
deviation, quantisation, rounding, clipping and the change of type.  A pixel has 256 values, so the table
holds the formula exactly, and looking up is as fast as the arithmetic (0.1 ms for 224 × 224).

Linear and cubic interpolation look at a few pixels only and alias when they shrink a picture further than
by half.  A larger one is therefore halved first, which is what JPEG's reduced decoding has done already: a
picture gives the same answer however it was encoded, and whether it was decoded at full scale or not.

What the model file says (size, layout, type, quantisation, TFLite metadata) need not be said in the
manifest.  Where neither says how pixels become numbers:

=========================  =====================================================================
floats                     0 … 1, what YOLO exports and most PyTorch models read
8-bit, quantised or not    the pixel itself (int8: pixel - 128), what full-range calibration gives
wider, quantised           0 … 1, quantised
wider, not quantised       the pixel itself
=========================  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, NoReturn, Optional, Tuple

import cv2
import numpy as np

from agent.inference.runtime.base import Geometry, TensorInfo
from agent.inference.runtime.decode import Decoded, Fit
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options

__all__ = ["COLORS", "INTERPOLATIONS", "LAYOUTS", "RESIZES", "InputSpec", "Preprocessor"]

LAYOUTS = ("NHWC", "NCHW")
COLORS: Mapping[str, Optional[int]] = {"RGB": cv2.COLOR_BGR2RGB, "BGR": None, "GRAY": cv2.COLOR_BGR2GRAY}
RESIZES = ("stretch", "crop", "letterbox")
INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}
_YOLO_GREY = 114
_MAX_SIDE = 8192
_CARRIERS = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.float64}
"""Types that OpenCV's table look-up moves in every version, by size in bytes."""


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
    pad: Tuple[float, ...] = (_YOLO_GREY,)
    """The pixel around a letterboxed picture."""
    file: Mapping[str, Any] = field(default_factory=dict)
    """What the model file's metadata says, for what the manifest leaves open."""

    @classmethod
    def parse(cls, table: Mapping[str, Any], metadata: Optional[Mapping[str, Any]] = None) -> InputSpec:
        """The manifest's ``input`` table, strictly; raises ``ModelError`` naming the key and the nearest known one."""
        numbers = ("mean", "std", "scale", "pad")
        listed = {key: [value] if key in numbers and _is_number(value) else value for key, value in table.items()}
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


class Preprocessor:
    """Turns decoded pictures into one network's input.

    The array returned is the same one at each call: hand it to one ``run`` before asking for the next.
    """

    def __init__(self, spec: InputSpec, tensor: TensorInfo) -> None:
        """Check the manifest against the file's tensor; raises ``ModelError`` where they disagree or leave a gap."""
        planes = _Planes.of(spec, tensor)
        self._width, self._height = planes.width, planes.height
        self._fill = _Filler(spec, tensor, planes)
        self._color = COLORS[planes.color]
        self._interpolation = INTERPOLATIONS[spec.interpolation]
        self._halves = spec.interpolation in ("linear", "cubic")
        self._place: Callable[[Decoded], Tuple[np.ndarray, Geometry]] = getattr(self, f"_{spec.resize}")
        self._picture = np.empty((self._height, self._width, 3), np.uint8)
        self._pad = _pad(spec, planes.color)
        self._box = (0, 0)
        size = (self._width, self._height)
        self.cover: Tuple[int, int] = Fit(size) if spec.resize == "letterbox" else size
        """The (width, height) that a picture's pixels should have at least."""

    def __call__(self, decoded: Decoded) -> Tuple[np.ndarray, Geometry]:
        """The network's input for a picture, and how it lies in the frame."""
        picture, geometry = self._place(decoded)
        if self._color is not None:
            picture = cv2.cvtColor(picture, self._color)
        return self._fill(picture), geometry

    def _stretch(self, decoded: Decoded) -> Tuple[np.ndarray, Geometry]:
        return self._resized(decoded.pixels, self._picture), self._geometry(decoded)

    def _crop(self, decoded: Decoded) -> Tuple[np.ndarray, Geometry]:
        """The largest central part of the frame that has the network's proportions."""
        height, width = decoded.pixels.shape[:2]
        scale = min(width / self._width, height / self._height)
        w, h = max(1, round(self._width * scale)), max(1, round(self._height * scale))
        x, y = (width - w) // 2, (height - h) // 2
        picture = self._resized(decoded.pixels[y : y + h, x : x + w], self._picture)
        return picture, self._geometry(decoded, x / width, y / height, w / width, h / height)

    def _letterbox(self, decoded: Decoded) -> Tuple[np.ndarray, Geometry]:
        """The whole frame, as large as it fits, in the middle of the padding."""
        scale = min(self._width / decoded.width, self._height / decoded.height)
        w, h = max(1, round(decoded.width * scale)), max(1, round(decoded.height * scale))
        x, y = (self._width - w) // 2, (self._height - h) // 2
        if self._box != (w, h):
            self._box = (w, h)
            self._picture[:] = self._pad
        self._resized(decoded.pixels, self._picture[y : y + h, x : x + w])
        return self._picture, self._geometry(decoded, -x / w, -y / h, self._width / w, self._height / h)

    def _resized(self, pixels: np.ndarray, into: np.ndarray) -> np.ndarray:
        height, width = into.shape[:2]
        while self._halves and pixels.shape[0] >= 2 * height and pixels.shape[1] >= 2 * width:
            half = ((pixels.shape[1] + 1) // 2, (pixels.shape[0] + 1) // 2)
            pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_LINEAR)
        cv2.resize(pixels, (width, height), dst=into, interpolation=self._interpolation)
        return into

    def _geometry(self, decoded: Decoded, x: float = 0.0, y: float = 0.0, w: float = 1.0, h: float = 1.0) -> Geometry:
        return Geometry(decoded.width, decoded.height, self._width, self._height, x, y, w, h)


@dataclass(frozen=True)
class _Planes:
    """Where a picture's rows, columns and channels lie in a tensor, and which colours they are."""

    width: int
    height: int
    planar: bool
    color: str
    shape: Tuple[int, ...]

    @classmethod
    def of(cls, spec: InputSpec, tensor: TensorInfo) -> _Planes:
        *batch, first, second, third = tensor.shape if len(tensor.shape) in (3, 4) else _no_picture(tensor)
        if any(size not in (-1, 1) for size in batch):
            raise ModelError(
                "input-unsupported", f"{_shape(tensor)} wants a batch", "export the model for a batch of 1"
            )
        planar = spec.layout == "NCHW" if spec.layout != "auto" else _is_planar(first, third, tensor)
        channels, height, width = (first, second, third) if planar else (third, first, second)
        color = _color(spec, channels, tensor)
        file_width, file_height = spec.file.get("size", (None, None))
        width = _side("width", spec.width, width, file_width, tensor)
        height = _side("height", spec.height, height, file_height, tensor)
        count = 1 if color == "GRAY" else 3
        sizes = (count, height, width) if planar else (height, width, count)
        return cls(width, height, planar, color, (1,) * len(batch) + sizes)


class _Filler:
    """Writes a placed picture into the network's array through one table per channel."""

    def __init__(self, spec: InputSpec, tensor: TensorInfo, planes: _Planes) -> None:
        channels = 1 if planes.color == "GRAY" else 3
        tables = [_table(tensor, mean, std) for mean, std in zip(*_normalisation(spec, tensor, channels))]
        same = all(np.array_equal(table, tables[0]) for table in tables)
        self.array = np.zeros(planes.shape, tables[0].dtype)
        carrier = _CARRIERS[self.array.itemsize]
        self._target = self.array.view(carrier).reshape(planes.shape[-3:])
        self._tables = [table.view(carrier) for table in tables]
        self._whole = self._tables[0] if same else np.dstack(self._tables).reshape(1, 256, channels)
        identity = tables[0].dtype == np.uint8 and same and np.array_equal(tables[0], np.arange(256))
        if planes.planar or channels == 1:
            self._target = self._target.reshape(channels, planes.height, planes.width)
            self._write = self._planes
        else:
            self._write = self._copy if identity else self._interleaved

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self._write(picture)
        return self.array

    def _copy(self, picture: np.ndarray) -> None:
        np.copyto(self._target, picture)

    def _interleaved(self, picture: np.ndarray) -> None:
        cv2.LUT(picture, self._whole, dst=self._target)

    def _planes(self, picture: np.ndarray) -> None:
        for plane, table, target in zip(cv2.split(picture), self._tables, self._target):
            cv2.LUT(plane, table, dst=target)


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


def _normalisation(spec: InputSpec, tensor: TensorInfo, channels: int) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """The mean and the standard deviation of each channel; the module's docstring has the table of defaults."""
    mean, std = spec.mean, spec.std
    dtype = np.dtype(tensor.dtype)
    if dtype.kind not in "fiu" or dtype.itemsize not in _CARRIERS:
        raise ModelError("input-unsupported", f"{_shape(tensor)} holds no pixels", "export it for float32 or uint8")
    if mean is None and std is None:
        if dtype.kind == "f":
            mean, std = spec.file.get("mean", (0.0,)), spec.file.get("std", (255.0,))
        elif dtype.itemsize == 1:
            real = tensor.scale if tensor.scale is not None else 1.0
            lowest = float(np.iinfo(dtype).min)
            zero = tensor.zero_point if tensor.scale is not None else 0
            mean, std = (zero - lowest,), (1 / real,)
        else:
            mean, std = (0.0,), (255.0 if tensor.scale is not None else 1.0,)
    return _each("mean", mean or (0.0,), channels), _each("std", std or (1.0,), channels)


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
    known = spec.color if spec.color != "auto" else str(spec.file.get("color", "RGB"))
    if spec.color == "auto" and channels in (1, 3):
        known = "GRAY" if channels == 1 else known.replace("GRAY", "RGB")
    if channels not in (-1, 1 if known == "GRAY" else 3):
        _wrong(f"{_shape(tensor)} has not the channels of a {known} picture", "check input.color and input.layout")
    return known


def _side(key: str, given: Optional[int], tensor_side: int, file_side: Optional[int], tensor: TensorInfo) -> int:
    if tensor_side > 0:
        if given not in (None, tensor_side):
            _wrong(f"input.{key} is {given}, but the file has {_shape(tensor)}", f"leave input.{key} out")
        return tensor_side
    side = given or file_side
    if not side:
        _wrong(f"{_shape(tensor)} leaves the {key} open", f"choose one with input.{key}")
    return side


def _wrong(message: str, hint: str) -> NoReturn:
    raise ModelError("options-wrong", message, hint)


def _no_picture(tensor: TensorInfo) -> NoReturn:
    raise ModelError("input-unsupported", f"{_shape(tensor)} is no picture", "give a model whose first input is one")


def _shape(tensor: TensorInfo) -> str:
    return f"the input {tensor.name!r} of {tensor.dtype} {list(tensor.shape)}"


def _numbers(options: Options, key: str) -> Optional[Tuple[float, ...]]:
    low = {"mean": -np.inf, "pad": -1.0}.get(key, 0.0)
    values = options.numbers(key, (1.0,), low)
    return values if key in options else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
