"""Run a command's coroutine; Ctrl-C ends it in order, and the exit status says so.

asyncio turns the signal into a cancellation of the coroutine, so that workers and links are left as on any
other way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from click.exceptions import Exit

from agent import logs

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130
"""What shells report for a program that SIGINT ended."""

Value = TypeVar("Value")


def run(main: Coroutine[Any, Any, Value]) -> Value:
    """The coroutine's result; Ctrl-C leaves with ``INTERRUPTED``.  What parts would log becomes our sentences."""
    logs.configure("error")
    try:
        return asyncio.run(main)
    except KeyboardInterrupt:
        raise Exit(INTERRUPTED) from None
