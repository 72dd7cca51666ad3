"""The frame buffer that the core and one worker share.

An unlinked file in memory whose descriptor the worker inherits: a few slots of equal size, written by
the core and read by the worker, so that a picture crosses the process border in one copy.  What the worker
paints over a picture (``painting.py``) comes back the same way, in that picture's slot.  Which slot
is whose is the core's book-keeping: a slot is free again when its answer came.  The file is sparse;
pages that no picture ever reached cost nothing.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import List, Sequence, Union

__all__ = ["Ring"]

Buffer = Union[bytes, bytearray, memoryview]


class Ring:
    """``slots`` buffers of ``slot_bytes`` each over the file behind ``descriptor``."""

    def __init__(self, descriptor: int, slots: int, slot_bytes: int, *, writable: bool = False) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(descriptor, slots * slot_bytes, mmap.MAP_SHARED, protection)
        self._view = memoryview(self._map)
        self._free: List[int] = list(range(slots))

    @staticmethod
    def create(slots: int, slot_bytes: int) -> int:
        """Make the file and return its descriptor; the name is gone at once."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("verge-frames", os.MFD_CLOEXEC)
        else:
            descriptor, name = tempfile.mkstemp(prefix="verge-frames-")
            os.unlink(name)
        os.ftruncate(descriptor, slots * slot_bytes)
        return descriptor

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def write(self, parts: Sequence[Buffer]) -> int:
        """Copy what follows each other into a free slot and return its number; raises ``IndexError`` when none is."""
        size = sum(map(len, parts))
        if size > self.slot_bytes:
            raise ValueError(f"{size} bytes do not fit in a slot of {self.slot_bytes}")
        slot = self._free.pop()
        at = slot * self.slot_bytes
        for part in parts:
            self._view[at : at + len(part)] = part
            at += len(part)
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)

    def read(self, slot: int, length: int) -> memoryview:
        """The picture in a slot, without copying; valid until the slot is written again."""
        start = slot * self.slot_bytes
        return self._view[start : start + length]

    def close(self) -> None:
        """Unmap; pictures read from it must be gone."""
        self._view.release()
        self._map.close()
