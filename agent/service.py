"""A service: run until a signal asks to leave, leave in order, leave at once when asked twice.

A captured signal is raised again after a clean stop, so that whoever started the agent sees the truth.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

__all__ = ["raise_descriptor_limit", "serve", "stop_signals"]

log = logging.getLogger(__name__)

Part = TypeVar("Part")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 20.0
_MOST_DESCRIPTORS = 65_536


def raise_descriptor_limit() -> None:
    """Allow this process as many file descriptors as it may have: a usual limit is meant for programs of one user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class StopSignals:
    """Set by the first signal; ``received`` is which."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.received: signal.Signals | None = None

    async def wait(self) -> None:
        """Return when a signal came."""
        await self.event.wait()


@asynccontextmanager
async def stop_signals(first: Callable[[signal.Signals], None] = lambda _: None) -> AsyncIterator[StopSignals]:
    """Catch SIGTERM and SIGINT while entered: ``first`` is called, a second one ends the process where it stands."""
    loop = asyncio.get_running_loop()
    signals = StopSignals()

    def on_signal(number: signal.Signals) -> None:
        if signals.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        signals.received = number
        signals.event.set()
        first(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield signals
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def serve(
    part: AbstractAsyncContextManager[Part],
    ready: Callable[[], None] = lambda: None,
    stopping_s: Callable[[Part], float] = lambda _: 0.0,
    leaving: Callable[[Part], asyncio.Future[int]] | None = None,
    reload: Callable[[Part], None] | None = None,
) -> signal.Signals | int:
    """Enter the part, wait for a signal, leave within a deadline; return the signal.

    A signal that comes while the part is entered cancels the entering.  ``stopping_s`` is what the part itself may need
    to leave, beyond the usual.  With ``leaving``, the part may also leave by itself: then its exit status is returned.
    SIGHUP, which also a closed terminal sends, ends nothing: it calls ``reload``.
    """
    loop = asyncio.get_running_loop()
    # A timeout, and not a task of its own, since a part has to be entered and left by the same task.
    entering = asyncio.timeout(None)
    entered: list[Part] = []

    def leave(why: signal.Signals | int) -> None:
        log.info("stopping: %s", why.name if isinstance(why, signal.Signals) else f"exit status {why}")
        grace_s = _GRACE_S + sum(map(stopping_s, entered))
        loop.call_later(grace_s, _give_up, grace_s)
        if not entered:
            entering.reschedule(loop.time())

    def hang_up() -> None:
        if entered and reload is not None:
            reload(entered[0])
        else:
            log.info("SIGHUP changes nothing while the agent starts")

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    async with stop_signals(leave) as signals, AsyncExitStack() as stack:
        try:
            async with entering:
                made = await stack.enter_async_context(part)
        except TimeoutError:
            if signals.received is None:
                raise
        else:
            entered.append(made)
            ready()
            status = await _first(signals, leaving(made) if leaving else None)
            if status is not None:
                leave(status)
                return status
    assert signals.received is not None  # noqa: S101 it was waited for
    return signals.received


async def _first(signals: StopSignals, leaving: asyncio.Future[int] | None) -> int | None:
    """Wait for a signal or for the status of a part that leaves by itself."""
    waiting = asyncio.ensure_future(signals.wait())
    both: set[asyncio.Future[Any]] = {waiting, leaving} if leaving is not None else {waiting}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return leaving.result() if leaving and leaving.done() and signals.received is None else None


def _give_up(grace_s: float) -> None:
    log.error("not stopped within %g s: leaving as it is", grace_s)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
