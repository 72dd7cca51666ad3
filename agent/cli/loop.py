"""Run a command's coroutine; Ctrl-C ends it in order, and the exit status says so.

asyncio turns the signal into a cancellation of the coroutine, so that workers and connections are closed as on any
other way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from click.exceptions import Exit

from agent import logs
from agent.cli import INTERRUPTED

__all__ = ["run"]

Value = TypeVar("Value")


def run(main: Coroutine[Any, Any, Value]) -> Value:
    """The coroutine's result; Ctrl-C leaves with ``INTERRUPTED``.  Only errors are logged; warnings would be noise."""
    logs.configure("error")
    try:
        return asyncio.run(main)
    except KeyboardInterrupt:
        raise Exit(INTERRUPTED) from None
