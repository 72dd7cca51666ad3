"""What the schedule hears and what it answers.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agent.mqtt.outbox.record import Entry

__all__ = [
    "Bounced", "Dropped", "Effect", "Ended", "Event", "Leaving", "Link", "Load", "Loaded", "Opened", "Remove",
    "Removed", "Send", "Stored", "Tick",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A store is there, with all that is held here: its topics and how many messages of each; None: too many."""

    topics: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Link:
    """The link went up or down."""

    up: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """These are in the store now, in the order they were published."""

    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Load:
    """Read the messages of ``rank`` after the number ``after``."""

    rank: int
    after: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a ``Load`` found; None: it failed."""

    load: Load
    entries: Sequence[Entry] | None
    exhausted: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """It is done with: the broker has it, or will never take it."""

    seq: int


@dataclass(frozen=True, slots=True)
class Bounced:
    """The transport did not take it, or gave it back."""

    seq: int


@dataclass(frozen=True, slots=True)
class Removed:
    """These are not in the store any more."""

    seqs: Sequence[int]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Of these topics messages that waited on disk only are gone."""

    topics: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: what did not work may be tried again."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Only what is live or of the first rank is still sent."""


@dataclass(frozen=True, slots=True)
class Send:
    """Hand it to the transport; ``replayed``: it had waited on disk."""

    entry: Entry
    replayed: bool


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove it from the store, some time."""

    seq: int


Event: TypeAlias = Opened | Link | Stored | Loaded | Ended | Bounced | Removed | Dropped | Tick | Leaving
Effect: TypeAlias = Send | Load | Remove
