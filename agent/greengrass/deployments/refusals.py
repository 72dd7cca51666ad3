"""Documents that are not taken: what is kept and said of them, all of it bounded.

Anybody who reaches the topic can send what is refused, as much and as often as he likes.  Of such a document stay its
id, its size and digest and the reason, never its bytes; there is room for a hundred, apart from what was taken.  One
that is too large is let go of when it arrives.  The log has a few lines a minute, and then how many it left out.

A refused document is reported under its own id, on the topic that its deployment would have, or under one made from
its digest where none can be read.  What is retained there of a deployment that *was* taken is not a stranger's to
overwrite: then the refusal is published and not retained.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import replace
from typing import Final, TypeAlias

import msgspec

from agent.greengrass.deployments.document import MAX_BYTES
from agent.greengrass.deployments.ledger import RefusedDocument
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import QUERY, Arrival
from agent.greengrass.errors import DeploymentError, DeploymentRejectedError
from agent.greengrass.trust.signatures import NotTrustedError, is_envelope, unsealed
from agent.text import trimmed

__all__ = ["BoundedLog", "Inbox", "Waiting", "of_refused", "too_large", "unexpected"]

log = logging.getLogger(__name__)

_INBOX: Final = 64
_INBOX_BYTES: Final = 2 * MAX_BYTES
_MAX_ID: Final = 512
_NO_IDS: Final = frozenset((QUERY, "cancel"))
"""Topics beside those of deployments."""
_LINES: Final = 10
_MINUTE_S: Final = 60.0


class _Named(msgspec.Struct, frozen=True):
    deployment: str | None = msgspec.field(default=None, name="deploymentId")
    request: str | None = msgspec.field(default=None, name="requestId")


def of_refused(arrival: Arrival) -> RefusedDocument:
    """What stays of a document that came."""
    digest = hashlib.sha256(arrival.payload).hexdigest()
    named = "" if arrival.source is Origin.SHADOW else _id_in(arrival.payload)
    identity = named or arrival.job_id or arrival.key or f"refused-{digest[:12]}"
    return RefusedDocument(identity, arrival.origin, digest, len(arrival.payload))


def too_large(size: int) -> DeploymentError:
    """Why a document of that size is refused unread."""
    return DeploymentError(
        f"the document has {size} bytes; {MAX_BYTES} is the most",
        code="DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED",
        hint="have large files fetched as artifacts instead of sending them along",
    )


def _id_in(payload: bytes) -> str:
    """The id that a document has, in an envelope too; empty where there is none to be read, or none for a topic."""
    if len(payload) > MAX_BYTES:
        return ""
    try:
        content = unsealed(payload).content if is_envelope(payload) else payload
        named = msgspec.json.decode(trimmed(content), type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotTrustedError):
        return ""
    identity = named.deployment or named.request or ""
    fit = len(identity) <= _MAX_ID and identity.isprintable() and not {"+", "#"} & set(identity)
    return identity if fit and identity not in _NO_IDS else ""


# -- on arrival --------------------------------------------------------------------------------------------------------

Waiting: TypeAlias = tuple[Arrival, RefusedDocument | None]
"""A document that waits; of one that is too large, without its bytes, what stays of it."""


class Inbox:
    """Documents that came and were not looked at so far: bounded in number, and in bytes each and together."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue(_INBOX)
        self._bytes = 0

    def put(self, arrival: Arrival) -> None:
        """Have a document wait.  Raises ``DeploymentRejectedError`` where there is no room."""
        large = len(arrival.payload) > MAX_BYTES
        waiting = (replace(arrival, payload=b""), of_refused(arrival)) if large else (arrival, None)
        size, full = len(waiting[0].payload), self._waiting.full()
        if full or self._bytes + size > _INBOX_BYTES:
            much = f"{_INBOX} documents" if full else f"documents of {self._bytes} bytes"
            raise DeploymentRejectedError(f"{much} wait already", code="THROTTLING_ERROR", hint="send it later")
        self._bytes += size
        self._waiting.put_nowait(waiting)

    async def get(self) -> Waiting:
        """The one that has waited longest."""
        waiting = await self._waiting.get()
        self._bytes -= len(waiting[0].payload)
        return waiting


# -- in the log --------------------------------------------------------------------------------------------------------


class BoundedLog:
    """Warnings, so many a minute; then how many more there were."""

    def __init__(self) -> None:
        self._lines = 0
        self._left_out = 0
        self._ends: asyncio.TimerHandle | None = None

    def warning(self, text: str) -> None:
        """Log a line, or count it."""
        if self._ends is None:
            self._ends = asyncio.get_running_loop().call_later(_MINUTE_S, self._end)
        self._lines += 1
        if self._lines <= _LINES:
            log.warning("%s", "".join(letter if letter.isprintable() else "?" for letter in text))
        else:
            self._left_out += 1

    def close(self) -> None:
        """Say what was left out so far."""
        if self._ends is not None:
            self._ends.cancel()
            self._end()

    def _end(self) -> None:
        if self._left_out:
            log.warning("%d more documents were refused within a minute", self._left_out)
        self._lines, self._left_out, self._ends = 0, 0, None


def unexpected(error: Exception) -> DeploymentError:
    """A fault of the agent's own, or of the machine's, as the reason why a document is not taken."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    return DeploymentError(f"the document could not be taken: {reason}", hint="the agent's log has the details")
