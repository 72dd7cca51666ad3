"""What a network takes beside the picture, and pictures where it takes only several: how one picture is fed to it.

Some networks ask for numbers beside the picture: its size, the frame's, how much it was scaled.  They do
their own arithmetic with them, so that boxes come out in pixels of whatever they were told.  They are told
that the network's picture is the frame, and answer in its pixels as every other network does; where that
lies in the frame is known (``Geometry``), however it was placed.  The manifest may tell them otherwise, in
``input.others``: a name, and for it a number or a list of numbers and of these words::

    width, height              of the network's picture
    frame_width, frame_height  of the frame
    scale_x, scale_y           the network's pixels for one of the frame's

A network that was exported for a fixed number of pictures gets the same one in each place, and its first answer is
taken.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

import numpy as np

from agent.inference.runtime.base import Geometry, TensorInfo
from agent.inference.runtime.errors import ModelError

__all__ = ["KNOWN", "WORDS", "Feed", "Value"]

Value = Union[float, str]

WORDS = ("width", "height", "frame_width", "frame_height", "scale_x", "scale_y")
KNOWN: Mapping[str, Tuple[Value, ...]] = {
    "scale_factor": (1.0,),
    "im_shape": ("height", "width"),
    "img_shape": ("height", "width"),
    "image_shape": ("height", "width"),
    "ori_shape": ("height", "width"),
    "input_shape": ("height", "width"),
    "im_info": ("height", "width", 1.0),
    "image_info": ("height", "width", 1.0),
    "target_sizes": ("height", "width"),
    "original_size": ("height", "width"),
    "orig_im_size": ("height", "width"),
    "image_size": ("height", "width"),
    "img_size": ("height", "width"),
    "orig_target_sizes": ("width", "height"),
    "orig_size": ("width", "height"),
    "pixel_mask": (1.0,),
    "keras_learning_phase": (0.0,),
    "is_training": (0.0,),
    "training": (0.0,),
    "phase_train": (0.0,),
    "keep_prob": (1.0,),
    "iou_threshold": (0.45,),
    "score_threshold": (0.05,),
    "conf_threshold": (0.05,),
    "confidence_threshold": (0.05,),
    "max_detections": (100.0,),
    "max_output_boxes_per_class": (100.0,),
}
"""What inputs of these names want; one value fills the whole input.

Paddle: ``im_shape``, ``scale_factor``; YOLOv3 and Caffe: ``image_shape``, ``im_info``; DETR: ``target_sizes``;
RT-DETR, D-FINE: ``orig_target_sizes``, width first.  Thresholds inside a network are low: the task has its own.
"""

_MOST_PICTURES = 256
_CHANNELS = (1, 3)
_PICTURE, _PLANE = 4, 3
_NUMBERS = "fiub"


class Feed:
    """One network's inputs and outputs as a single picture's."""

    def __init__(
        self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], others: Mapping[str, Tuple[Value, ...]]
    ) -> None:
        """Settle what each input gets; raises ``ModelError`` naming those that nothing is known for."""
        self._place = _picture(inputs, others)
        self._batch = _batch(inputs[self._place])
        self._others = _values(inputs, self._place, others)
        self._alone = len(inputs) == 1 and self._batch == 1
        self._all = np.empty(0)
        self.inputs = [_one(inputs[self._place], self._batch)]
        """The picture's input, as for one picture, and then the others."""
        self.inputs += [tensor for place, tensor in enumerate(inputs) if place != self._place]
        self.outputs = [_one(tensor, self._batch) for tensor in outputs]
        """As for one picture."""
        self.notes = (
            (f"the network takes {self._batch} pictures at once: each is given so many times",)
            if self._batch > 1
            else ()
        )

    def given(self, picture: np.ndarray, geometry: Geometry) -> List[np.ndarray]:
        """What the network is given for one picture, in its order."""
        if self._alone:
            return [picture]
        arrays = [_filled(tensor, values, geometry) for tensor, values in self._others]
        arrays.insert(self._place, self._repeated(picture))
        return arrays

    def taken(self, outputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """What the network answered to the one picture."""
        if self._batch == 1:
            return outputs
        return [array[:1] if array.ndim and array.shape[0] == self._batch else array for array in outputs]

    def _repeated(self, picture: np.ndarray) -> np.ndarray:
        if self._batch == 1:
            return picture
        shape = (self._batch, *picture.shape[1:])
        if self._all.shape != shape or self._all.dtype != picture.dtype:
            self._all = np.empty(shape, picture.dtype)
        self._all[:] = picture
        return self._all


def _picture(inputs: Sequence[TensorInfo], others: Mapping[str, Any]) -> int:
    """Which of the inputs is the picture: the first that looks like one, and is not told otherwise."""
    open_ones = [place for place, tensor in enumerate(inputs) if not _told(tensor, others)]
    for rank in (_PICTURE, _PLANE):
        for place in open_ones:
            if len(inputs[place].shape) == rank and _has_channels(inputs[place].shape[-3:]):
                return place
    if len(inputs) > 1:
        listed = ", ".join(f"{tensor.name} of {tensor.dtype} {list(tensor.shape)}" for tensor in inputs)
        hint = "give a model that reads one picture: height, width and colours"
        raise ModelError("input-unsupported", f"none of the network's inputs is a picture: {listed}", hint)
    return 0


def _has_channels(shape: Sequence[int]) -> bool:
    return any(side in (*_CHANNELS, -1) for side in (shape[0], shape[2]))


def _batch(tensor: TensorInfo) -> int:
    """For how many pictures at once the network was exported."""
    count = tensor.shape[0] if len(tensor.shape) == _PICTURE else 1
    if count > _MOST_PICTURES:
        raise ModelError(
            "input-unsupported",
            f"the input {tensor.name!r} of {tensor.dtype} {list(tensor.shape)} takes {count} pictures at once",
            "export the model for a batch of 1",
        )
    return max(count, 1)


def _one(tensor: TensorInfo, batch: int) -> TensorInfo:
    """The tensor as of a batch of one."""
    return replace(tensor, shape=(1, *tensor.shape[1:])) if batch > 1 and tensor.shape[:1] == (batch,) else tensor


def _told(tensor: TensorInfo, others: Mapping[str, Tuple[Value, ...]]) -> Optional[Tuple[Value, ...]]:
    """What the input wants, as the manifest says or its name; None where neither does."""
    name = tensor.name.lower().partition(":")[0].rpartition("/")[2]
    return others.get(tensor.name) or KNOWN.get(name) or KNOWN.get(name.replace("serving_default_", "", 1))


def _values(
    inputs: Sequence[TensorInfo], picture: int, others: Mapping[str, Tuple[Value, ...]]
) -> List[Tuple[TensorInfo, Tuple[Value, ...]]]:
    """Each of the other inputs with what it is given."""
    names = [tensor.name for place, tensor in enumerate(inputs) if place != picture]
    for name in others:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            message = f"input.others names {name!r}, which the network does not take beside the picture"
            raise ModelError("options-wrong", message, f"{guess}it takes {', '.join(names) or 'nothing else'}")
    rest = [tensor for place, tensor in enumerate(inputs) if place != picture]
    missing = [tensor for tensor in rest if _told(tensor, others) is None]
    if missing:
        _unknown(missing)
    return [(tensor, _fitting(tensor, _told(tensor, others) or ())) for tensor in rest]


def _fitting(tensor: TensorInfo, values: Tuple[Value, ...]) -> Tuple[Value, ...]:
    """The values, where the input can hold them."""
    is_number = bool(tensor.kind) and tensor.kind in _NUMBERS
    holds = len(values) == 1 or tensor.shape[-1:] in ((-1,), (len(values),))
    if not (is_number and holds):
        what = f"the input {tensor.name!r} of {tensor.dtype} {list(tensor.shape)}"
        raise ModelError("options-wrong", f"{what} cannot hold {list(values)}", f"check input.others.{tensor.name}")
    return values


def _filled(tensor: TensorInfo, values: Tuple[Value, ...], geometry: Geometry) -> np.ndarray:
    """An input with its values: several along its last axis, or one everywhere."""
    words = _words(geometry)
    numbers = [words[value] if isinstance(value, str) else value for value in values]
    shape = [max(side, 1) for side in tensor.shape]
    if len(numbers) > 1:
        shape[-1] = len(numbers)
    elif len(shape) >= _PLANE:
        own = (geometry.network_height, geometry.network_width)
        shape[-2:] = [side if side > 0 else other for side, other in zip(tensor.shape[-2:], own)]
    array = np.empty(shape, np.dtype(tensor.dtype))
    array[...] = numbers if len(numbers) > 1 else numbers[0]
    return array


def _words(geometry: Geometry) -> Dict[str, float]:
    width, height = geometry.network_width, geometry.network_height
    return {
        "width": width,
        "height": height,
        "frame_width": geometry.width,
        "frame_height": geometry.height,
        "scale_x": width / (geometry.extent_x * geometry.width),
        "scale_y": height / (geometry.extent_y * geometry.height),
    }


def _unknown(missing: Sequence[TensorInfo]) -> NoReturn:
    listed = ", ".join(f"{tensor.name} of {tensor.dtype} {list(tensor.shape)}" for tensor in missing)
    raise ModelError(
        "input-unsupported",
        f"the network takes more than a picture: {listed}",
        f"say what it is given: input.others = {{{missing[0].name} = [1.0]}}, numbers or {', '.join(WORDS)}; "
        "what other code or another network makes cannot be given: export the whole model, from the picture on",
    )
