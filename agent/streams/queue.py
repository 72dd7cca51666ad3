"""Frames that wait for a worker, one queue a camera, cameras in turn.

==========  ==============================================================================================
policy      what happens to a frame that finds no room
==========  ==============================================================================================
``latest``  it takes the place of the one that waits: a viewer wants what is, not what was
``fifo``    it is dropped when ``depth`` frames of its camera wait
``all``     as ``fifo``, for a source that waits: a frame is acknowledged when it is done, and a broker that
            keeps to Receive Maximum sends no more than finds room (mosquitto 2.0.11 sends more)
==========  ==============================================================================================

Cameras are served round-robin, so that a fast one cannot starve a slow one.  Nothing here knows the
time: ``now`` comes from the caller, monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agent.config.streams import Policy
from agent.frames.frame import Frame

__all__ = ["QUEUE_FULL", "SUPERSEDED", "TOO_MANY_CAMERAS", "TOO_OLD", "CameraQueues", "Drop"]

SUPERSEDED = "superseded"
QUEUE_FULL = "queue-full"
TOO_OLD = "too-old"
TOO_MANY_CAMERAS = "too-many-cameras"


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame that will not be answered, and why."""

    frame: Frame
    reason: str


class CameraQueues:
    """At most ``depth`` frames for each of at most ``max_cameras`` cameras; ``max_age_s`` 0 keeps any age."""

    def __init__(self, policy: Policy, *, depth: int = 1, max_age_s: float = 0.0, max_cameras: int = 256) -> None:
        self._replaces = policy is Policy.LATEST
        self._depth = 1 if self._replaces else depth
        self._max_age_s = max_age_s
        self._max_cameras = max_cameras
        self._cameras: dict[str, deque[Frame]] = {}
        self._turn: deque[str] = deque()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def cameras(self) -> int:
        """How many cameras have frames that wait."""
        return len(self._turn)

    def put(self, frame: Frame) -> Drop | None:
        """Have a frame wait; the result is the frame that had to give way, if one had."""
        queue = self._cameras.get(frame.camera)
        if queue is None:
            if len(self._cameras) >= self._max_cameras:
                return Drop(frame, TOO_MANY_CAMERAS)
            queue = self._cameras[frame.camera] = deque()
        if not queue:
            self._turn.append(frame.camera)
        elif len(queue) >= self._depth:
            if not self._replaces:
                return Drop(frame, QUEUE_FULL)
            old = queue.popleft()
            queue.append(frame)
            return Drop(old, SUPERSEDED)
        queue.append(frame)
        self._waiting += 1
        return None

    def take(self, now: float) -> tuple[Frame | None, list[Drop]]:
        """The next frame in turn, and those that grew too old on the way to it."""
        stale: list[Drop] = []
        while self._turn:
            camera = self._turn.popleft()
            queue = self._cameras[camera]
            frame = queue.popleft()
            self._waiting -= 1
            if queue:
                self._turn.append(camera)
            if not self._max_age_s or now - frame.arrived <= self._max_age_s:
                return frame, stale
            stale.append(Drop(frame, TOO_OLD))
        return None, stale

    def clear(self, reason: str) -> list[Drop]:
        """Let go of every waiting frame."""
        drops = [Drop(frame, reason) for queue in self._cameras.values() for frame in queue]
        for queue in self._cameras.values():
            queue.clear()
        self._turn.clear()
        self._waiting = 0
        return drops
