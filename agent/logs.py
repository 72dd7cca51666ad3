"""Logs for people: one line an event on standard error, in the order time, level, where, what.

The standard library's logging does it; under systemd the journal adds the time itself.  What came over the network
may stand in any line: characters that a terminal obeys are shown as escapes, and a line stays one line.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from agent.text import shown

__all__ = ["configure"]


def configure(level: str) -> None:
    """Log to standard error from ``level`` on, one of ``agent.config.load.LOG_LEVELS``."""
    clock = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(f"{clock}%(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the standard library's name
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 as above
        return shown(super().formatException(ei), keep="\n\t")
