"""The large parts of a result, which leave as bytes of their own: an attachment each (pure).

Large are pictures of one channel (maps, and masks where they are wanted as PNG), and the bytes of vectors and tensors
past ``LARGE``.  In the result an attachment's number stands where its data would be; the attachment is published on
``<the result's topic>/attachments/<the result's id>/<number>``, before the result, so that whoever reads the result
has what it speaks of.  Masks as run lengths are small, and stay.

A result has at most ``MAX_ATTACHMENTS``, and only so much time is spent on its masks; what is more is left out and
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from agent.config.streams import MaskForm
from agent.inference import masks
from agent.inference.predictions import (
    Anomaly,
    Detection,
    Embedding,
    Image,
    Map,
    Mask,
    Parts,
    Prediction,
    Segmentation,
    Tensor,
)

__all__ = ["BYTES", "LARGE", "MAX_ATTACHMENTS", "PNG", "TOO_MANY", "Detacher", "Place", "topic"]

LARGE: Final = 1024
"""Bytes of a vector or a tensor that stay in the result."""
MAX_ATTACHMENTS: Final = 64
"""Of one result."""
MAX_RUN_LENGTHS: Final = 256 * 1024
"""Characters of run lengths that are made PNG for one result: at most some 0.1 s, as long as nothing else happens."""
TOO_MANY: Final = "attachments-too-many"
BYTES, PNG = "application/octet-stream", "image/png"

Place: TypeAlias = Callable[[int, bytes, str], bool]
"""Takes an attachment's number, bytes and content type; says whether it is on its way."""


def topic(result_topic: str, identity: str, number: int) -> str:
    """Where an attachment is published.

    >>> topic("verge/T/results/door", "01M8", 0)
    'verge/T/results/door/attachments/01M8/0'
    """
    return f"{result_topic}/attachments/{identity}/{number}"


class Detacher:
    """Writes the masks of one result in their form, and has ``place`` take what is large; without it, that stays."""

    def __init__(self, form: MaskForm, place: Place | None) -> None:
        self._form = form
        self._place = place
        self._count = 0
        self._run_lengths = 0
        self.left_out = 0
        """How many attachments were too much for one result."""

    def predictions(self, given: tuple[Prediction, ...]) -> tuple[Prediction, ...]:
        """The predictions, less what went elsewhere; the very same where nothing did."""
        changed = [how(self, one) if (how := _DETACH.get(type(one))) else one for one in given]
        return given if all(map(is_, changed, given)) else tuple(changed)

    def detection(self, one: Detection) -> Detection:
        """A detection, less its mask and what is large in its parts."""
        if one.mask is None and not one.parts:
            return one
        mask, parts = self._mask(one.mask), self.predictions(one.parts)
        same = mask is one.mask and parts is one.parts
        return one if same else replace(one, mask=mask, parts=Parts(parts))

    def segmentation(self, one: Segmentation) -> Segmentation:
        """A segment, less its mask."""
        mask = self._mask(one.mask)
        return one if mask is one.mask else replace(one, mask=mask)

    def picture(self, one: Anomaly | Map) -> Anomaly | Map:
        """A map or an anomaly, less its picture."""
        return replace(one, map=self._image(one.map)) if self._place and one.map else one

    def data(self, one: Embedding | Tensor) -> Embedding | Tensor:
        """A vector or a tensor, less its bytes."""
        if self._place is None or not isinstance(one.data, bytes) or len(one.data) <= LARGE:
            return one
        empty = b"" if isinstance(one, Embedding) else None
        return replace(one, data=empty, attachment=self._number(one.data, BYTES))

    def _mask(self, mask: Mask | Image | None) -> Mask | Image | None:
        if not isinstance(mask, Mask) or self._form == "rle":
            return mask
        if self._form == "none":
            return None
        image = self._png(mask)
        if image is None:
            self.left_out += 1
            return None
        return self._image(image)

    def _png(self, mask: Mask) -> Image | None:
        self._run_lengths += len(mask.data)
        if self._run_lengths > MAX_RUN_LENGTHS:
            return None
        try:
            return masks.png(mask)
        except ValueError:  # no run lengths: only a worker gone astray sends them
            return None

    def _image(self, image: Image) -> Image:
        if self._place is None:
            return image
        return Image(image.width, image.height, attachment=self._number(image.data, PNG))

    def _number(self, data: bytes, content_type: str) -> int | None:
        """The attachment's number; None where it goes nowhere."""
        if self._count == MAX_ATTACHMENTS:
            self.left_out += 1
            return None
        if not (self._place and self._place(self._count, data, content_type)):
            return None
        self._count += 1
        return self._count - 1


_DETACH: Final[Mapping[type, Callable[[Detacher, Any], Prediction]]] = {
    Detection: Detacher.detection,
    Segmentation: Detacher.segmentation,
    Anomaly: Detacher.picture,
    Map: Detacher.picture,
    Embedding: Detacher.data,
    Tensor: Detacher.data,
}
"""The kinds with something large."""
