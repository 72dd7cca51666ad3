"""What is said of the picture that a network reads, and who says it.

Three may know: the manifest (and what the configuration or the command line put over it), the model file's
metadata, and the family that the network was recognised as.  Each fact is the first one's that has it;
those of mean and standard deviation are one.  What nobody says follows from the tensor or is usual
(``preprocess.py``).

What the families' own code does with a picture, in the words of the manifest's ``[input]``:

=========================  =================================================  =====  ==============================
family                     resize                                             color  (pixel - mean) / std
=========================  =================================================  =====  ==============================
Ultralytics, YOLOv5 … v12  letterbox, center, pad 114                         RGB    0, 255
Ultralytics -cls           crop                                               RGB    0, 255
YOLOX                      letterbox, top-left, pad 114                       BGR    0, 1
YOLO-NAS                   letterbox, center, pad 114                         RGB    0, 255
NanoDet                    stretch                                            BGR    ImageNet's, in BGR
PicoDet                    stretch, cubic                                     RGB    ImageNet's
PP-YOLOE, Paddle RT-DETR   stretch, cubic                                     RGB    0, 255
RT-DETR, D-FINE            stretch                                            RGB    0, 255
RF-DETR, DETR              stretch; shortest 800, max_side 1333               RGB    ImageNet's
torchvision detectors      shortest 800, max_side 1333                        RGB    0, 255 (the rest is inside)
torchvision classifiers    crop of 0.875                                      RGB    ImageNet's
timm                       crop of 0.875 to 1, cubic                          RGB    ImageNet's, or 127.5, 127.5
Keras                      stretch, nearest                                   RGB    127.5, 127.5; or 0, 1; or
                                                                              BGR    (103.939, 116.779, 123.68), 1
TF object detection        stretch                                            RGB    127.5, 127.5, or the pixel
MediaPipe faces, palms     letterbox, center, pad 0                           RGB    127.5, 127.5, or 0, 255
MediaPipe landmarks        stretch                                            RGB    0, 255
SCRFD                      letterbox, top-left, pad 0                         RGB    127.5, 128
ArcFace                    stretch of an aligned face                         RGB    127.5, 127.5
UltraFace                  stretch                                            RGB    127, 128
YuNet                      stretch                                            BGR    0, 1
CenterFace                 longest, multiple 32                               RGB    0, 1
RetinaFace                 longest, multiple 32                               BGR    (104, 117, 123), 1
PaddleOCR, detection       shortest 736, no downscale, multiple 32; or        BGR    ImageNet's as if for RGB
                           longest 960, no upscale, multiple 32
PaddleOCR, recognition     height 48, width at least 320, top-left, pad 127   BGR    127.5, 127.5
MiDaS                      longest 384, multiple 32, cubic                    RGB    ImageNet's
Anomalib                   stretch                                            RGB    ImageNet's, or 0, 255
=========================  =================================================  =====  ==============================

ImageNet's are mean (123.675, 116.28, 103.53) and std (58.395, 57.12, 57.375).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import feed, windows
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.framing import PLACES, RESIZES
from agent.inference.runtime.options import Options
from agent.inference.runtime.windows import Region, Tiles

__all__ = ["COLORS", "FAMILY", "FILE", "INTERPOLATIONS", "KEYS", "LAYOUTS", "MANIFEST", "Fact", "InputSpec"]

MANIFEST, FILE, FAMILY = "manifest", "file", "family"
"""Who says a fact, in the order in which they are believed."""
LAYOUTS = ("NHWC", "NCHW")
COLORS: Mapping[str, Optional[int]] = {"RGB": cv2.COLOR_BGR2RGB, "BGR": None, "GRAY": cv2.COLOR_BGR2GRAY}
INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}
_YOLO_GREY = 114
_MAX_SIDE = 8192
_MAX_MULTIPLE = 256
_LEAST_CROP = 0.05
_UNSAID = {"width": 0, "height": 0, "layout": "auto", "color": "auto"}
_LISTED = ("mean", "std", "scale", "pad")
_PAIR = 2
_MOST_VALUES = 64
_LARGEST_VALUE = 1e9
_REGION = "{x, y, width, height} or a list of three or more [x, y], in fractions of the frame"


class Fact(NamedTuple):
    """One thing that is known of the input, and who says it."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class InputSpec:
    """A manifest's ``[input]`` over what the file and the family say; ``auto`` and None ask the tensor."""

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
    place: str = "center"
    pad: Tuple[float, ...] = (_YOLO_GREY,)
    """The pixel around a letterboxed picture, in ``color``'s order."""
    crop: float = 1.0
    """The share of the largest central part that ``resize = "crop"`` takes: 0.875 of a side of 256 is 224."""
    upscale: bool = True
    downscale: bool = True
    multiple: int = 1
    max_side: int = 2048
    interpolation: str = "linear"
    others: Mapping[str, Tuple[feed.Value, ...]] = field(default_factory=dict)
    """What the network is given beside the picture, by the inputs' names (``feed.py``)."""
    tile: Optional[Tiles] = None
    regions: Tuple[Region, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Who says what; a key that is missing is as usual."""

    @classmethod
    def parse(
        cls,
        table: Mapping[str, Any],
        metadata: Optional[Mapping[str, Any]] = None,
        family: Optional[Mapping[str, Any]] = None,
    ) -> InputSpec:
        """The manifest's ``input`` table, strictly, over the file's metadata and the family's facts.

        Raises ``ModelError`` naming the key and the nearest known one.
        """
        said = {MANIFEST: _read(table), FILE: _from_file(metadata or {}), FAMILY: _read(_sides(family or {}))}
        facts: Dict[str, Any] = {}
        sources: Dict[str, str] = {}
        for source, values in said.items():
            for group in _GROUPS:
                if any(key in values for key in group) and not any(key in sources for key in group):
                    facts.update((key, values[key]) for key in group if key in values)
                    sources.update((key, source) for key in group if key in values)
        color = facts.get("color", "RGB")
        for key in ("mean", "std", "pad"):
            if key in facts and _is_reversed(said[sources[key]].get("color"), sources[key], color):
                facts[key] = facts[key][::-1]
        return cls(**facts, sources=sources)

    @property
    def facts(self) -> Tuple[Fact, ...]:
        """What is said, and by whom."""
        return tuple(Fact(key, getattr(self, key), source) for key, source in self.sources.items())


_GROUPS: Sequence[Tuple[str, ...]] = (
    ("width",), ("height",), ("layout",), ("color",), ("mean", "std"), ("resize",), ("place",), ("pad",), ("crop",),
    ("upscale",), ("downscale",), ("multiple",), ("max_side",), ("interpolation",),
    ("others",), ("tile",), ("regions",),
)  # fmt: skip
"""What is believed together."""

_Read = Callable[[Options, str], Any]


def _whole(low: int, high: int) -> _Read:
    return lambda options, key: options.integer(key, low, low, high)


def _word(*words: str) -> _Read:
    return lambda options, key: options.choice(key, words[0], words)


def _numbers(low: float) -> _Read:
    return lambda options, key: options.numbers(key, None, low)


def _others(options: Options, key: str) -> Dict[str, Tuple[feed.Value, ...]]:
    table, wanted = options.table(key), f"numbers, or {', '.join(feed.WORDS)}"
    given: Dict[str, Tuple[feed.Value, ...]] = {}
    for name in table:
        given[name] = table.items(name, _value, wanted, _MOST_VALUES) or ()
    return given


def _value(value: Any) -> Optional[feed.Value]:
    if isinstance(value, str):
        return value if value in feed.WORDS else None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_VALUE
    return float(value) if is_number else None


_READERS: Mapping[str, _Read] = {
    "width": _whole(0, _MAX_SIDE),
    "height": _whole(0, _MAX_SIDE),
    "layout": _word("auto", *LAYOUTS),
    "color": _word("auto", *COLORS),
    "mean": _numbers(-np.inf),
    "std": _numbers(0.0),
    "scale": _numbers(0.0),
    "resize": _word(*RESIZES),
    "place": _word(*PLACES),
    "pad": _numbers(-1.0),
    "crop": lambda options, key: options.number(key, 1.0, _LEAST_CROP, 1.0),
    "upscale": lambda options, key: options.flag(key),
    "downscale": lambda options, key: options.flag(key),
    "multiple": _whole(1, _MAX_MULTIPLE),
    "max_side": _whole(1, _MAX_SIDE),
    "interpolation": _word(*INTERPOLATIONS),
    "others": _others,
    "tile": lambda options, key: Tiles.read(options.table(key)) if key in options else options.table(key),
    "regions": lambda options, key: options.items(key, windows.region, _REGION, windows.MOST_REGIONS),
}
KEYS = tuple(_READERS)
"""What a manifest's ``[input]`` may say."""


def _read(table: Mapping[str, Any]) -> Dict[str, Any]:
    """What a table says, each key with its value; raises ``ModelError`` for what no input can be."""
    options = Options({key: [value] if _is_lone(key, value) else value for key, value in table.items()}, "input")
    values = {key: read(options, key) for key, read in _READERS.items()}
    options.done()
    said = {key: value for key, value in values.items() if value is not None and key in options}
    said = {key: value for key, value in said.items() if value != _UNSAID.get(key)}
    if "std" in said and "scale" in said:
        raise ModelError("options-wrong", "input says both std and scale", "scale is 1 / std: give one of them")
    if "scale" in said:
        said["std"] = tuple(1 / factor for factor in said.pop("scale"))
    if said.get("crop") and said.setdefault("resize", "crop") != "crop":
        message = f'input.crop is a share of a picture that is cropped, but input.resize is "{said["resize"]}"'
        raise ModelError("options-wrong", message, 'give resize = "crop", or leave crop out')
    return said


def _from_file(metadata: Mapping[str, Any]) -> Dict[str, Any]:
    """What a file's metadata says of its input; what is no fact at all is nothing."""
    said: Dict[str, Any] = {}
    known = {"multiple": metadata.get("stride"), **_sides(metadata)}
    for key, value in known.items():
        if key in _READERS and value is not None:
            try:
                said.update(_read({key: list(value) if isinstance(value, tuple) else value}))
            except ModelError:
                continue
    return said


def _sides(facts: Mapping[str, Any]) -> Dict[str, Any]:
    """The facts with ``size``, one side or (width, height), as width and height."""
    known = dict(facts)
    size = known.pop("size", None)
    if size is not None:
        pair: List[Any] = list(size) if isinstance(size, (list, tuple)) else [size, size]
        if len(pair) == _PAIR:
            known["width"], known["height"] = pair
    return known


def _is_reversed(own: Optional[str], source: str, color: str) -> bool:
    """Whether numbers of that source are in the other order of colours: it names its own, or else means RGB."""
    own = own or (color if source == MANIFEST else "RGB")
    return {own, color} == {"RGB", "BGR"}


def _is_lone(key: str, value: object) -> bool:
    return key in _LISTED and isinstance(value, (int, float)) and not isinstance(value, bool)
