"""What is remembered of each camera, bounded: topics name cameras, and anyone may name topics."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["MAX_CAMERAS", "Recent"]

MAX_CAMERAS = 1024

T = TypeVar("T")


class Recent(Generic[T]):
    """One value per camera; past ``limit`` cameras the one written longest ago is forgotten."""

    def __init__(self, limit: int = MAX_CAMERAS) -> None:
        self._limit = limit
        self._values: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, camera: str) -> T | None:
        """The camera's value, if one is remembered."""
        return self._values.get(camera)

    def put(self, camera: str, value: T) -> None:
        """Remember the camera's value."""
        self._values[camera] = value
        self._values.move_to_end(camera)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def forget(self, camera: str) -> None:
        """Remember nothing of the camera."""
        self._values.pop(camera, None)
