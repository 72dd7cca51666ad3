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
"""

from __future__ import annotations

import enum
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

from msgspec import Struct

from agent.errors import FrameError
from agent.mqtt.transport import Message

__all__ = ["Receive", "Source", "SourceState", "SourceStatus"]

log = logging.getLogger(__name__)


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
