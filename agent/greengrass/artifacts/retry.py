"""What cannot be reached is tried again, with growing, random delays, until its time is up; whoever watches is told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from agent.config.deployments import RetryPolicy
from agent.errors import UnreachableError

__all__ = ["OnRetry", "Retry", "persist"]

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Retry:
    """``what`` could not be reached for ``reason``; times are Unix times."""

    what: str
    reason: str
    next_attempt: float
    until: float
    """When it is given up, if nothing comes until then."""


OnRetry: TypeAlias = Callable[[Retry], None]
"""Is called before each pause between two attempts."""


async def persist(
    attempt: Callable[[], Awaitable[Answer]],
    policy: RetryPolicy,
    what: str,
    *,
    furthest: Callable[[], int] = lambda: 0,
    floor: int = 0,
    on_retry: OnRetry = lambda _retry: None,
) -> Answer:
    """Repeat while ``attempt`` raises ``UnreachableError``.

    Progress (``furthest``, in bytes) faster than ``floor`` bytes a second starts the retries anew.
    """
    failures, since, mark = 0, time.monotonic(), furthest()
    while True:
        try:
            return await attempt()
        except UnreachableError as error:
            now = time.monotonic()
            if furthest() - mark > floor * (now - since):
                failures, since, mark = 0, now, furthest()
            delay_s = random.uniform(0.0, policy.ceiling_s(failures))
            failures += 1
            left_s = since + policy.give_up_after_s - now
            if delay_s > left_s:
                raise
            log.info("%s; next attempt for %s in %.1f s", error.message, what, delay_s)
            reason = f"{error.message} (hint: {error.hint})" if error.hint else error.message
            on_retry(Retry(what, reason, time.time() + delay_s, time.time() + left_s))
        await asyncio.sleep(delay_s)
