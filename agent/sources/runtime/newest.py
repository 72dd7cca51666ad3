"""The newest picture of a camera, until it is taken or replaced: given at most once, and never when it is old.

``seen = taken + skipped + (1 where one is held)`` holds after every call.  A picture is too old when the camera should
have taken two others since, and a second has passed: whoever asks then waits for the next one.  The clock is the
caller's.
"""

from __future__ import annotations

from typing import Generic, Optional, Tuple, TypeVar

__all__ = ["Newest"]

Picture = TypeVar("Picture")

_OLD_S = 1.0
_PERIODS = 2
_NEWS = 0.2
"""How much the last period says of the usual one."""


class Newest(Generic[Picture]):
    """A place for one picture."""

    def __init__(self) -> None:
        self.seen = 0
        self.taken = 0
        self.skipped = 0
        self._held: Optional[Tuple[Picture, float]] = None
        self._last: Optional[float] = None
        self._period_s = 0.0

    def put(self, picture: Picture, now: float) -> None:
        """A picture was taken at ``now`` (monotonic seconds); the one that is held gives way."""
        self.seen += 1
        if self._held is not None:
            self.skipped += 1
        self._held = picture, now
        if self._last is not None:
            period = now - self._last
            self._period_s += (period - self._period_s) * (_NEWS if self._period_s else 1.0)
        self._last = now

    def take(self, now: float) -> Optional[Picture]:
        """The picture that is held, if it is new enough."""
        if self._held is None:
            return None
        picture, taken_at = self._held
        self._held = None
        if now - taken_at > max(_OLD_S, _PERIODS * self._period_s):
            self.skipped += 1
            return None
        self.taken += 1
        return picture
