"""One open request at a time, sent again until it is answered: what both conversations of a device have in common.

Pure.  A machine's state is a ``RequestState`` with what its own protocol needs besides.  A request is repeated after a
time-out that doubles; after rejections in a row the machine waits before it asks again; and because a notification may
be lost with a broker, it asks without a reason now and then.  ``Pace`` says how long each of these takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

__all__ = [
    "Connected",
    "Disconnected",
    "Pace",
    "PendingRequest",
    "ReportAccepted",
    "RequestRejected",
    "RequestState",
    "Tick",
    "answered",
    "connected",
    "disconnected",
    "next_tick",
    "opened",
    "ready",
    "rejected",
    "ticked",
]

Request = TypeVar("Request")
State = TypeVar("State", bound="RequestState[Any]")


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits in seconds, each stretched by ``1 + spread``, which is drawn per process and keeps a fleet out of step."""

    first_s: float = 10.0
    """For the first answer; each repetition waits twice as long as the one before."""
    backoff_s: float = 1.0
    """After a rejection; doubles with each one in a row."""
    cap_s: float = 120.0
    refresh_s: float = 900.0
    """After so long without an answer the machine asks again, unasked."""
    spread: float = 0.0

    def response_timeout(self, repetitions: int) -> float:
        """How long to wait for an answer.

        >>> [Pace().response_timeout(tries) for tries in range(5)]
        [10.0, 20.0, 40.0, 80.0, 120.0]
        """
        return self._grown(self.first_s, repetitions)

    def backoff(self, rejections: int) -> float:
        """How long to send nothing after so many rejections in a row."""
        return self._grown(self.backoff_s, rejections)

    def refresh(self) -> float:
        """How long to go without a request."""
        return self.refresh_s * (1 + self.spread)

    def _grown(self, first_s: float, times: int) -> float:
        return min(self.cap_s, first_s * 2.0 ** min(times, 32)) * (1 + self.spread)


# -- events that both machines take ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker is connected, and subscriptions are in force."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The broker is not connected."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: ``next_tick`` says until when to wait for it."""


@dataclass(frozen=True, slots=True)
class ReportAccepted:
    """The service accepted a report; ``version`` is the new one, where the answer has it."""

    token: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """The service rejected a request."""

    token: str
    code: str
    message: str = ""


# -- state ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingRequest(Generic[Request]):
    """The open request, how often it was sent, and when to send it again."""

    request: Request
    tries: int
    due: float


@dataclass(frozen=True, slots=True)
class RequestState(Generic[Request]):
    """What is open and what waits; times are seconds on the caller's monotonic clock.

    ``session`` makes tokens unlike those of an earlier process.
    """

    session: str
    pace: Pace
    connected: bool = False
    pending: PendingRequest[Request] | None = None
    must_refresh: bool = False
    """Whether to ask for the service's state as soon as nothing is open."""
    rejections: int = 0
    """In a row."""
    quiet_until: float = 0.0
    refresh_at: float = 0.0
    sent: int = 0

    @property
    def token(self) -> str:
        """That of the next request."""
        return f"{self.session}-{self.sent + 1}"


def connected(state: State, now: float) -> State:
    """After a connection: what was open may be lost, so the service's state comes first."""
    return replace(state, connected=True, pending=None, must_refresh=True, rejections=0, quiet_until=now)


def disconnected(state: State) -> State:
    """Without a connection nothing is open."""
    return replace(state, connected=False, pending=None)


def ready(state: RequestState[Any], now: float) -> bool:
    """Whether the next request may be sent."""
    return state.connected and state.pending is None and now >= state.quiet_until


def opened(state: State, request: object, now: float) -> State:
    """After ``request`` was sent for the first time."""
    pending = PendingRequest(request, 1, now + state.pace.response_timeout(0))
    return replace(state, pending=pending, must_refresh=False, sent=state.sent + 1)


def answered(state: State, now: float) -> State:
    """Nothing is open any more, and the service is known to be there."""
    return replace(state, pending=None, refresh_at=now + state.pace.refresh())


def rejected(state: State, now: float, *, later: bool = False) -> State:
    """The open request was rejected; the first time in a row the next one may follow at once, unless ``later``."""
    rejections = state.rejections + 1
    wait = state.pace.backoff(rejections) if rejections > 1 or later else 0.0
    return replace(state, pending=None, rejections=rejections, quiet_until=now + wait)


def ticked(state: State, now: float) -> tuple[State, Any | None]:
    """The state after the time has come, and the request to send again, if any."""
    pending = state.pending
    if pending is not None and now >= pending.due and state.connected:
        due = now + state.pace.response_timeout(pending.tries)
        return replace(state, pending=PendingRequest(pending.request, pending.tries + 1, due)), pending.request
    if pending is None and now >= state.refresh_at:
        return replace(state, must_refresh=True, refresh_at=now + state.pace.refresh()), None
    return state, None


def next_tick(state: RequestState[Any], *, to_send: bool) -> float | None:
    """When the next ``Tick`` is due; None without a connection.  ``to_send``: something waits to be reported."""
    if not state.connected:
        return None
    if state.pending is not None:
        return state.pending.due
    return state.quiet_until if state.must_refresh or to_send else state.refresh_at
