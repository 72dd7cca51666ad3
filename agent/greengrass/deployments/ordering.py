"""Deployments and the one order: what is asked of ``trust.order``, and when its record moves.

A document is decided on when it arrives, by the record as it is then.  The record moves before the deployment is
queued; a document is used up right before its deployment changes something, or when it is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from agent.greengrass.deployments.request import Deployment, Origin
from agent.greengrass.trust import order
from agent.greengrass.trust.order import Claims, OrderDecision, Record
from agent.greengrass.trust.record import OrderRecord, OrderRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.greengrass.deployments.ledger import Entry
    from agent.greengrass.trust.policy import Admission

__all__ = ["DocumentOrder", "claims_of"]

log = logging.getLogger(__name__)


def claims_of(deployment: Deployment, document: bytes) -> Claims:
    """What a document says of itself that matters to the order.  Raises ``DeploymentError``."""
    return Claims(
        hashlib.sha256(document).hexdigest(),
        deployment.group,
        deployment.own_ms,
        order.audience(document),
        rollback=deployment.rollback,
    )


class DocumentOrder:
    """The order of one device; its record's files are read and written off the event loop."""

    def __init__(self, record: OrderRecord, thing: str) -> None:
        self._record = record
        self._thing = thing

    @property
    def damage(self) -> str:
        """What was lost of the record, for people; empty where nothing was."""
        return self._record.damage

    async def open(self, timestamps: Mapping[str, int], entries: Sequence[Entry]) -> None:
        """Read the record; where there is none, begin with the active set's times and with what the ledger has."""
        taken = [hashlib.sha256(one.document).hexdigest() for one in reversed(entries) if one.origin is Origin.TOPIC]
        pruned = bool(entries) and entries[0].seq > len(entries)
        await asyncio.to_thread(self._record.open, timestamps, _now_ms(), tuple(taken), pruned=pruned)

    async def decide(self, claims: Claims, admission: Admission, *, retained: bool) -> OrderDecision:
        """What becomes of a document that its sender may send."""
        record = await asyncio.to_thread(self._record.read)
        return self._decide(claims, admission, record, retained=retained)

    def decide_again(self, claims: Claims, admission: Admission) -> OrderDecision:
        """What becomes of one that was accepted before the agent ended: its place in the order is decided."""
        return self._decide(claims, admission, Record(), retained=False)

    async def accept(self, claims: Claims, admission: Admission) -> None:
        """Move the record to this document.  Raises ``OrderRecordError``."""
        signers = tuple(key.id for key in admission.signers)
        await asyncio.to_thread(self._record.update, partial(order.accepted, claims=claims, signers=signers))

    async def use_up(self, claims: Claims) -> None:
        """Have this document, if it is signed, taken no more.  Raises ``OrderRecordError``."""
        await asyncio.to_thread(self._record.update, partial(order.closed, claims=claims))

    async def give_up(self, claims: Claims) -> None:
        """The same for one whose deployment is over anyway: a disk that refuses is logged."""
        try:
            await self.use_up(claims)
        except OrderRecordError as error:
            log.warning("a cancelled document may be sent again: %s", error)

    def _decide(self, claims: Claims, admission: Admission, record: Record, *, retained: bool) -> OrderDecision:
        signed = bool(admission.signers)
        return order.decide(claims, record, thing=self._thing, now_ms=_now_ms(), signed=signed, retained=retained)


def _now_ms() -> int:
    return int(time.time() * 1e3)
