"""Which pictures end workers, and which cameras send such pictures: pure, with the time as an argument.

A worker that is lost over a picture may have been killed by it or by something else, so one loss makes the picture a
*suspect*, and a second one over the same bytes convicts it.  What is convicted is refused before a worker sees it, for
as long as the model stays loaded; the same bytes sent again count as the same picture.

A camera whose pictures were convicted ``limit`` times within ``window_s`` is held back: all its pictures are refused
for ``hold_s``, and each conviction after that doubles the time, up to ``cap_s``.  It costs the other cameras two losses
a picture until then, and none during that time.

Nothing of it counts against the model.  Everything is bounded; the oldest is forgotten first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, TypeVar

from agent.errors import FrameError
from agent.frames.frame import Picture
from agent.inference.tensors import TensorInput

__all__ = ["CAMERA_HELD", "QUARANTINED", "Guilt"]

QUARANTINED: Final = "quarantined"
CAMERA_HELD: Final = "camera-held"

_KILLS: Final = 2

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Guilt:
    """What is known of the inputs and cameras of one model."""

    def __init__(
        self, *, keep: int = 1024, limit: int = 3, window_s: float = 600.0, hold_s: float = 30.0, cap_s: float = 600.0
    ) -> None:
        self._keep = keep
        self._limit = limit
        self._window_s = window_s
        self._hold_s = hold_s
        self._cap_s = cap_s
        self._kills: OrderedDict[str, int] = OrderedDict()
        """Digest → workers lost over it."""
        self._sizes: OrderedDict[int, None] = OrderedDict()
        """The sizes of those inputs: of any other size nothing is hashed."""
        self._cameras: OrderedDict[str, _Camera] = OrderedDict()

    def lost(self, content: Picture | TensorInput, camera: str, now: float) -> bool:
        """A worker was lost over this input; the result is whether that convicts it."""
        digest, size = _digest(content), _size(content)
        kills = self._kills.pop(digest, 0) + 1
        _remember(self._kills, digest, kills, self._keep)
        self._sizes.pop(size, None)
        _remember(self._sizes, size, None, self._keep)
        if kills == _KILLS and camera:
            self._convicted(camera, now)
        return kills >= _KILLS

    def acquit(self, content: Picture | TensorInput) -> None:
        """A worker answered this input after all."""
        self._kills.pop(_digest(content), None)

    def is_suspect(self, content: Picture | TensorInput) -> bool:
        """Whether a worker was lost over the same bytes before."""
        return _size(content) in self._sizes and _digest(content) in self._kills

    def refusal(self, content: Picture | TensorInput, camera: str, now: float) -> FrameError | None:
        """Why no worker gets this input; None for one that may be tried."""
        held = self._cameras.get(camera)
        if held is not None and now < held.until:
            return FrameError(
                f"{held.convictions} pictures of this camera ended two workers each; all of its pictures are refused "
                f"for another {held.until - now:.0f} s",
                code=CAMERA_HELD,
                hint="the pictures are in the quarantine folder; look at what the camera sends",
            )
        if _size(content) in self._sizes and self._kills.get(digest := _digest(content), 0) >= _KILLS:
            return FrameError(
                f"two workers were lost over the same bytes before (sha256 {digest[:12]}…)",
                code=QUARANTINED,
                hint="the input is in the quarantine folder; loading the model anew tries it again",
            )
        return None

    def _convicted(self, name: str, now: float) -> None:
        camera = self._cameras.pop(name, None) or _Camera()
        _remember(self._cameras, name, camera, self._keep)
        camera.recent.append(now)
        while camera.recent[0] < now - self._window_s:
            camera.recent.popleft()
        camera.convictions += 1
        if len(camera.recent) < self._limit:
            camera.hold_s = 0.0
        else:
            camera.hold_s = min(self._cap_s, 2 * camera.hold_s or self._hold_s)
            camera.until = now + camera.hold_s


@dataclass(slots=True)
class _Camera:
    """The convictions of one camera's pictures, and until when it is held back."""

    convictions: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    hold_s: float = 0.0
    until: float = 0.0


def _remember(known: OrderedDict[_Key, _Value], key: _Key, value: _Value, keep: int) -> None:
    known[key] = value
    if len(known) > keep:
        known.popitem(last=False)


def _data(content: Picture | TensorInput) -> bytes | memoryview:
    return content.data if isinstance(content, Picture) else b"".join(content.parts()[0])


def _size(content: Picture | TensorInput) -> int:
    return len(content.data) if isinstance(content, Picture) else content.nbytes


def _digest(content: Picture | TensorInput) -> str:
    return hashlib.sha256(_data(content)).hexdigest()
