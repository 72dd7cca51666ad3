"""Lines of a log → events → batches that CloudWatch Logs takes.

A batch has at most 10 000 events and 1 MB, counted as UTF-8 and 26 bytes more for each event, spans at most 24 hours,
and goes to one stream, which is that of one day.  An event has at most 256 KB: a longer one is cut into several.
(Amazon CloudWatch Logs API Reference, PutLogEvents.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agent.greengrass.services.logs.options import LEVELS

__all__ = ["Event", "LogBatch", "batch", "events"]

MAX_EVENTS: Final = 10_000
MAX_BYTES: Final = 1_048_576
EVENT_COST: Final = 26
MAX_EVENT_BYTES: Final = 256 * 1024 - EVENT_COST

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_STAMP = re.compile(rb"\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)(?:\s+\[(\w+)\])?")
_RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)} | {"TRACE": -1, "FATAL": len(LEVELS)}


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a log; ``end`` is the place in the file after it."""

    time_ms: int
    level: str
    """Empty where the line does not name one that is known."""
    messages: tuple[str, ...]
    """More than one where it is too long for one."""
    size: int
    end: int

    @property
    def day(self) -> str:
        """The day in UTC, as streams name it: ``2026/11/29``."""
        return datetime.fromtimestamp(self.time_ms / 1000, UTC).strftime("%Y/%m/%d")

    def reaches(self, level: str) -> bool:
        """Whether it is of that level or above; what names no level is."""
        return not self.level or _RANKS[self.level] >= _RANKS[level]


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What one request carries, in order of time; ``end`` is the place in the file after it."""

    day: str
    messages: tuple[tuple[int, str], ...]
    end: int


def events(
    data: bytes, start: int, new_event: re.Pattern[str], default_ms: int, *, whole: bool, cut: bool, full: bool = False
) -> list[Event]:
    """The events of a piece of a file that begins at ``start``.

    ``whole``: its last event has all its lines.  ``cut``: so has a last line without an end.  ``full``: the piece is as
    long as pieces get, and an event that fills it is taken as it is.  An event without a time has that of the one
    before; the first has ``default_ms``.
    """
    groups = list(_groups(data, new_event, cut=cut, full=full))
    if not whole and (len(groups) > 1 or not full):
        groups = groups[:-1]
    found: list[Event] = []
    for raw in groups:
        start += len(raw)
        time_ms, level = _head(raw)
        default_ms = default_ms if time_ms is None else time_ms
        messages = _messages(raw)
        size = sum(len(message.encode()) + EVENT_COST for message in messages)
        found.append(Event(default_ms, level, messages, size, start))
    return found


def batch(pending: Sequence[Event], level: str) -> LogBatch | None:
    """As many of the first events as fit into one request, without those below the level; None where none are left."""
    taken: list[tuple[int, str]] = []
    day, end, size = "", 0, 0
    for event in pending:
        if event.reaches(level) and event.messages:
            too_large = len(taken) + len(event.messages) > MAX_EVENTS or size + event.size > MAX_BYTES
            if taken and (event.day != day or too_large):
                break
            taken += [(event.time_ms, message) for message in event.messages]
            day, size = event.day, size + event.size
        end = event.end
    return LogBatch(day, tuple(sorted(taken, key=lambda one: one[0])), end) if end else None


def _groups(data: bytes, new_event: re.Pattern[str], *, cut: bool, full: bool) -> Iterator[bytes]:
    """Lines, each with those that go on with it; a line without an end only where it is cut there, or fills all."""
    group = b""
    for line in _LINE.findall(data):
        if not line.endswith(b"\n") and not cut and not (full and len(line) == len(data)):
            break
        if group and new_event.search(line.decode(errors="replace").rstrip("\r\n")):
            yield group
            group = b""
        group += line
    if group:
        yield group


def _head(raw: bytes) -> tuple[int | None, str]:
    """An event's time and level: of a line of this agent's or a nucleus's, in text or in JSON."""
    if raw[:1] == b"{":
        try:
            fields = json.loads(raw)
        except ValueError:
            return None, ""
        time_ms = fields.get("timestamp")
        return (time_ms if type(time_ms) is int and time_ms >= 0 else None), _level(str(fields.get("level", "")))
    match = _STAMP.match(raw)
    if match is None:
        return None, ""
    moment = datetime.fromisoformat(match[1].decode().replace(",", "."))
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, int(aware.timestamp() * 1000)), _level((match[2] or b"").decode())


def _level(name: str) -> str:
    return name.upper() if name.upper() in _RANKS else ""


def _messages(raw: bytes) -> tuple[str, ...]:
    text = raw.decode(errors="replace").rstrip("\r\n")
    data = text.encode()
    pieces = (data[at : at + MAX_EVENT_BYTES].decode(errors="ignore") for at in range(0, len(data), MAX_EVENT_BYTES))
    return tuple(piece for piece in pieces if piece)
