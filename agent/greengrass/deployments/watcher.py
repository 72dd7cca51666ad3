"""Who hears of every deployment, whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from agent.greengrass.deployments.outcome import DetailedStatus, Outcome
from agent.greengrass.deployments.request import Deployment, Source

__all__ = ["COMMITTED", "End", "Watcher"]

COMMITTED: Final = frozenset((DetailedStatus.SUCCESSFUL, DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED))
"""These are in the ledger with the set that they made active."""


@dataclass(frozen=True, slots=True)
class End:
    """A deployment is over; ``deployment`` is None for a document that was not taken, or that a crash ended."""

    id: str
    source: Source
    outcome: Outcome
    deployment: Deployment | None = None


class Watcher(Protocol):
    """Hears of deployments on the event loop, and must not block."""

    def began(self) -> None:
        """One is under way; told at each of its steps."""

    def ended(self, end: End) -> None:
        """One is over; told anew after a restart when whoever asked may not have heard."""
