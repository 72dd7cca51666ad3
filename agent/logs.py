"""Logs for people: one line an event on standard error, in the order time, level, where, what.

The standard library's logging does it; under systemd the journal adds the time itself.
"""

from __future__ import annotations

import logging
import os
import sys

from agent.config.strict import nearest
from agent.errors import ConfigError

__all__ = ["configure"]

_LEVELS = ("debug", "info", "warning", "error")


def configure(level: str) -> None:
    """Log to standard error from ``level`` on; raises ``ConfigError`` for a level that is none."""
    if level not in _LEVELS:
        raise ConfigError(
            f"there is no log level {level!r}", hint=nearest(level, _LEVELS) or f"known: {', '.join(_LEVELS)}"
        )
    clock = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"{clock}%(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
