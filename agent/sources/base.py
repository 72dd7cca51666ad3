"""The seam between a stream and what gives it frames.

A source is *pushed* or *asked*.  Topics push: frames come when a sender sends them.  A directory and a camera
are asked, so that nothing is read or copied that no model has room for:

==========  ======================================================================================
``want``    the stream has room: give one frame as soon as there is one (how a stream without an
            interval asks, whenever a worker is free and nothing waits)
``beat``    give one frame now or not at all; False means that this beat is missed
==========  ======================================================================================

``open`` and ``close`` take effect at once, between two frames, because a stream switches between two frames; what
takes time (a process that ends, a file being read) ends behind them, and ``wait_closed`` waits for it.  A closed
source may be opened again: a deployment that is rolled back does.  A source never delivers from within ``want``,
``beat`` or ``open``.

Beats come at an interval, on an absolute grid: start + n × interval, whatever happens between them.  A beat is *served*
or *missed*: it is missed when the clock has passed it by more than half an interval, so that what was late is skipped
and never made up for, and two served beats are at least half an interval apart.  Because every beat is reckoned from
the start, lateness does not add up.  Another interval starts another grid at the last served beat: the next beat is one
new interval after it, or the first point of the new grid from now on.  There is one grid at any time.  ``Beat`` is the
grid and takes the clock of its caller; ``Pacer`` is the event loop's timer on it, set anew after each beat.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

from msgspec import Struct

from agent.errors import FrameError
from agent.mqtt.transport import Message

__all__ = ["Beat", "Pacer", "Receive", "Source", "SourceState", "SourceStatus"]

log = logging.getLogger(__name__)
_LATE = 0.5
"""The part of an interval by which a beat may be late and still be served."""


class SourceState(enum.StrEnum):
    """How a source is."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """What it needs is not there; it goes on trying."""
    BROKEN = "broken"
    """Only a person can mend it; it tries again now and then."""
    ENDED = "ended"
    """There is nothing more to come: a file was played to its end."""
    STOPPED = "stopped"


class SourceStatus(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A source at a glance, as the stream's retained topic has it; what does not apply is left out."""

    kind: Literal["topic", "directory", "camera"]
    name: str
    """The topic filter, the folder with the name, or the camera without its credentials."""
    state: SourceState
    reason: str = ""
    delivered: int | None = None
    """Frames given to the stream, those included that turned out to be no pictures."""
    skipped: int | None = None
    """Pictures a camera took that nobody asked for: a newer one came first."""
    reconnects: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    """What the camera says of its pace."""
    encoding: str | None = None
    """How its pictures cross to the agent: ``jpeg`` as the camera made it, ``npy`` raw."""
    interval_s: float | None = None
    beats: int | None = None
    """Beats that were served."""
    missed: int | None = None
    """Beats that came too late, or found the source busy or away."""


class Receive(Protocol):
    """A stream's door: takes one frame, on the event loop's thread, without blocking.

    ``captured_at`` are seconds since the epoch; ``refused`` is why a frame that
    was there could not be had: it counts as a failed one.
    """

    def __call__(
        self, message: Message, /, *, captured_at: float | None = None, refused: FrameError | None = None
    ) -> None:
        """Take it."""


class Source(ABC):
    """Something that gives a stream frames; ``changed`` is called when its state is another."""

    kind: ClassVar[Literal["topic", "directory", "camera"]]
    pushes: ClassVar[bool] = False
    """Whether frames come unasked."""
    holds: bool = False
    """Whether the sender waits until a frame is acknowledged."""

    def __init__(self, name: str, changed: Callable[[], None]) -> None:
        self.name = name
        self._changed = changed
        self._state = SourceState.STARTING
        self._reason = ""

    @property
    def hands_over(self) -> bool:
        """Whether frames that are not acknowledged now come to the next process of the agent."""
        return False

    @abstractmethod
    def open(self, receive: Receive) -> None:
        """Give frames to ``receive`` from now on."""

    @abstractmethod
    def close(self) -> None:
        """Give no frame from now on."""

    async def wait_closed(self) -> None:  # noqa: B027 most have nothing to wait for
        """Wait until a closed source has let go of everything."""

    @abstractmethod
    def camera(self, message: Message) -> str:
        """Which camera a frame is from."""

    @property
    @abstractmethod
    def status(self) -> SourceStatus:
        """The source as it is now."""

    def passes_over(self, message: Message) -> bool:
        """Whether the frame is none to be answered, though it came."""
        del message
        return False

    def want(self) -> None:  # noqa: B027 a source that pushes is not asked
        """The stream has room for a frame."""

    def beat(self) -> bool:
        """A frame is due; False when none can be given now."""
        return True

    def acknowledge(self, message: Message) -> None:  # noqa: B027 most senders do not wait
        """A frame of a source that ``holds`` is done with."""

    def _set(self, state: SourceState, reason: str = "") -> None:
        """Be in another state; trouble is logged once, however long it lasts."""
        if (state, reason) == (self._state, self._reason):
            return
        self._state, self._reason = state, reason
        if state in {SourceState.WAITING, SourceState.BROKEN}:
            log.warning("%s %s: %s", self.kind, self.name, reason)
        else:
            log.info("%s %s is %s", self.kind, self.name, state)
        self._changed()


class Pacer:
    """Calls ``serve`` on every beat once it has an interval; a beat that ``serve`` returns False for is missed."""

    def __init__(self, serve: Callable[[], bool]) -> None:
        self._serve = serve
        self._beat: Beat | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0

    @property
    def on(self) -> bool:
        """Whether there are beats."""
        return self._beat is not None

    @property
    def interval_s(self) -> float:
        """Seconds between two beats; 0 without beats."""
        return self._beat.interval_s if self._beat else 0.0

    @property
    def beats(self) -> int:
        """How many were served."""
        return self._beat.served - self._refused if self._beat else 0

    @property
    def missed(self) -> int:
        """How many were not."""
        return self._beat.missed + self._refused if self._beat else 0

    def set(self, interval_s: float) -> None:
        """Beat at this interval from now on, or no more (0)."""
        now = asyncio.get_running_loop().time()
        if not interval_s:
            self.stop()
        elif self._beat is None:
            self._beat, self._refused = Beat(now, interval_s), 0
        else:
            self._beat.retime(now, interval_s)
        self._arm()

    def stop(self) -> None:
        """No more beats."""
        self._beat = None
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._beat is not None:
            self._timer = asyncio.get_running_loop().call_at(self._beat.due, self._fire)

    def _fire(self) -> None:
        beat = self._beat
        if beat is None:
            return
        # Armed first: what serving may break must not end the schedule.
        serve = beat.take(asyncio.get_running_loop().time())
        self._arm()
        if serve and not self._serve():
            self._refused += 1


class Beat:
    """The beats of a schedule that begins at ``start``: the first one is due at once."""

    def __init__(self, start: float, interval_s: float) -> None:
        self._start = start
        self._number = 0
        self._last: float | None = None
        self.interval_s = interval_s
        self.served = 0
        self.missed = 0

    @property
    def due(self) -> float:
        """When the next beat is."""
        return self._start + self._number * self.interval_s

    def take(self, now: float) -> bool:
        """At ``now``, take note that the beat which is due is reached; the result is whether to serve it.

        Before it is due nothing happens.  Afterwards ``due`` is later than ``now``.
        """
        if now < self.due:
            return False
        newest = max(self._number, math.floor((now - self._start) / self.interval_s))
        while self._start + (newest + 1) * self.interval_s <= now:  # what dividing lost
            newest += 1
        while newest > self._number and self._start + newest * self.interval_s > now:
            newest -= 1
        at = self._start + newest * self.interval_s
        on_time = now - at <= _LATE * self.interval_s
        self.missed += newest - self._number + (not on_time)
        self.served += on_time
        self._last = at if on_time else self._last
        self._number = newest + 1
        return on_time

    def retime(self, now: float, interval_s: float) -> None:
        """Go on with another interval."""
        if interval_s == self.interval_s:
            return
        self.interval_s = interval_s
        if self._last is None:
            self._start, self._number = self.due if self._number == 0 else now, 0
            return
        self._start = self._last
        self._number = max(1, math.ceil((now - self._start) / interval_s))
