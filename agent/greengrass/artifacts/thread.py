"""Blocking work off the event loop, which a cancellation waits for.

``asyncio.to_thread`` returns from a cancelled wait while the thread goes on; whoever then closes the file
closes it under the thread's hands.  Here the cancellation is delivered when the thread is done, so the work
has to be short, or to stop when ``interrupt`` tells it to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

__all__ = ["in_thread"]

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")


async def in_thread(
    work: Callable[[*Arguments], Answer],
    *args: *Arguments,
    interrupt: Callable[[], object] | None = None,
) -> Answer:
    """The answer of ``work``, run in a thread; when this returns or raises, ``work`` has ended."""
    pending = asyncio.get_running_loop().run_in_executor(None, work, *args)
    try:
        return await asyncio.shield(pending)
    except asyncio.CancelledError:
        if interrupt:
            interrupt()
        while not pending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([pending])
        if not pending.cancelled():
            pending.exception()  # looked at: the cancellation is what the caller hears of
        raise
