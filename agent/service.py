"""A service: run until a signal asks to leave, leave in order, leave at once when asked twice.

A captured signal is raised again after a clean stop, so that whoever started the agent sees the truth.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

__all__ = ["serve", "stop_signals"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 20.0


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


async def serve(part: AbstractAsyncContextManager[Any], ready: Callable[[], None] = lambda: None) -> signal.Signals:
    """Enter the part, wait for a signal, leave within a deadline; return the signal.

    A signal that comes while the part is entered cancels the entering.
    """
    loop = asyncio.get_running_loop()
    # A timeout, and not a task of its own, since a part has to be entered and left by the same task.
    entering, entered = asyncio.timeout(None), False

    def leave(number: signal.Signals) -> None:
        log.info("stopping: %s", number.name)
        loop.call_later(_GRACE_S, _give_up)
        if not entered:
            entering.reschedule(loop.time())

    async with stop_signals(leave) as signals, AsyncExitStack() as stack:
        try:
            async with entering:
                await stack.enter_async_context(part)
        except TimeoutError:
            if signals.received is None:
                raise
        else:
            entered = True
            ready()
            await signals.wait()
    assert signals.received is not None  # noqa: S101 it was waited for
    return signals.received


def _give_up() -> None:
    log.error("not stopped within %g s: leaving as it is", _GRACE_S)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
