"""What became of a transport's connections: how often it came back, why it was lost, and what that looks like.

Two clients with one id end each other's connection whenever they connect.  MQTT 5 says so (``taken-over``); older
brokers just hang up.  The pattern gives it away: each connection is ended by the broker soon after it began, and the
next attempt succeeds at once, which it would not were the broker or the network away.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from agent.errors import BrokerUnreachableError
from agent.mqtt.reasons import CLOSED, TAKEN_OVER

__all__ = ["LinkHistory"]

_SOON_S: Final = 60.0
_TIMES: Final = 3


@dataclass(frozen=True, slots=True)
class _Loss:
    """A connection that was lost: by which code, after how long, and whether the next attempt succeeded."""

    code: str
    lasted_s: float
    back_at_once: bool = True


class LinkHistory:
    """Told whenever the link goes up or down; ``client_id`` is empty where the broker chooses one."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._ups = 0
        self._up_since: float | None = None
        self._trouble: BrokerUnreachableError | None = None
        self._trouble_at = 0.0
        self._loss: _Loss | None = None
        self._losses: deque[_Loss] = deque(maxlen=_TIMES)
        """Those after which the link came back."""
        self._told = ""

    def up(self, now: float) -> None:
        """Connected, at ``now`` in seconds since the epoch."""
        self._ups += 1
        self._up_since = now
        if self._loss is not None:
            self._losses.append(self._loss)

    def down(self, trouble: BrokerUnreachableError, now: float) -> None:
        """Not connected any more, or still not, because of ``trouble``."""
        self._trouble, self._trouble_at = trouble, now
        if self._up_since is not None:
            self._loss, self._up_since = _Loss(trouble.code, now - self._up_since), None
        elif self._loss is not None:
            self._loss = replace(self._loss, back_at_once=False)

    @property
    def guess(self) -> str:
        """What the losses look like, in a sentence; empty where they look like nothing."""
        if self._loss is not None and self._loss.code == TAKEN_OVER:
            who = f"the client id {self._client_id!r}" if self._client_id else "the same client id"
            return f"another client connects with {who}: give each a client_id of its own"
        alike = len(self._losses) == _TIMES and all(
            one.code == CLOSED and one.lasted_s < _SOON_S and one.back_at_once for one in self._losses
        )
        if not alike or not self._client_id:
            return ""
        return (
            f"perhaps another client connects with the client id {self._client_id!r}: the broker ended the last "
            f"{_TIMES} connections soon after they began; give each client an id of its own, or look into its log"
        )

    def news(self) -> str:
        """The guess, where it was not asked for since it came up; empty otherwise."""
        told, self._told = self._told, self.guess
        return self._told if self._told != told else ""

    def facts(self) -> dict[str, Any]:
        """The same as plain values; empty as long as nothing happened."""
        reconnects = max(0, self._ups - 1)
        if self._trouble is None:
            return {}
        told = {
            "reconnects": reconnects,
            "trouble": {"code": self._trouble.code, "reason": self._trouble.message, "at": _utc(self._trouble_at)},
        }
        return {**told, "guess": self.guess} if self.guess else told


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
