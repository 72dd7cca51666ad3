"""Logs for people: one line an event on standard error, in the order time, level, where, what.

The standard library's logging does it; under systemd the journal adds the time itself.
"""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["configure"]


def configure(level: str) -> None:
    """Log to standard error from ``level`` on, one of ``agent.config.load.LOG_LEVELS``."""
    clock = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"{clock}%(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
