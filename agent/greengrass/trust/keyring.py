"""The keyring: the key list that a device holds, how fresh its trust is, and the file and topics of both.

========================  =====================================================================================
place                     what
========================  =====================================================================================
``…/trust``               signed key lists and timestamps come here, retained or not; one, or an array of them
``…/trust/timestamp``     the same: a retained timestamp does not take a retained list's place
``…/trust/status``        retained: the list, the age of the last signed word, what was refused last
``trust/keyring.json``    the newest list and the newest words, written whole, twice, with a digest
========================  =====================================================================================

What comes waits in a bounded inbox and is taken in order; what finds it full is counted.  A list is in use when it was
taken, and on disk at once; a disk that fails does not keep a revoked key alive.  A job may bring the same
(``KeyringJobs``).

Both files damaged: the configuration's keys are trusted to sign the next list, and nothing else is trusted until that
came or the owner said ``verge trust reset``.  Whoever could damage the files could otherwise bring revoked keys back.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.errors import VergeError
from agent.files import DamagedFileError, make_folder, read_checked, write_checked
from agent.greengrass.trust import keylist
from agent.greengrass.trust.freshness import STILL_VALID_TYPE, Freshness, stamped
from agent.greengrass.trust.keylist import KEYS_TYPE, KeyList, Scope
from agent.greengrass.trust.policy import Admission, Link, TrustPolicy
from agent.greengrass.trust.signatures import (
    NotTrustedError,
    SignedContent,
    SignedEnvelope,
    SignedKind,
    is_envelope,
    unsealed,
)
from agent.mqtt.transport import Message, Transport
from agent.results.result import utc
from agent.text import trimmed

__all__ = ["Keyring", "KeyringFile", "KeyringJobs", "StoredTrust", "is_trust_word", "trust_words"]

log = logging.getLogger(__name__)

_INBOX: Final = 16
_MAX_WORDS: Final = 64
_MAX_BYTES: Final = 4 * 1024 * 1024
_REPORT_S: Final = 300.0
"""Between two reports of an age that only grows."""
_SETTLE_S: Final = 0.1
_QUIET_S: Final = 6.0
"""Between two messages: whoever floods the topic does not keep the agent busy."""
_KINDS = {KEYS_TYPE: SignedKind.KEYS, STILL_VALID_TYPE: SignedKind.STILL_VALID}


class _Typed(msgspec.Struct, frozen=True):
    type: str = ""


def trust_words(payload: bytes) -> tuple[tuple[SignedKind, SignedContent], ...]:
    """The key lists and timestamps in a payload: one envelope, or a list of them.

    Raises ``NotTrustedError`` for what is neither.
    """
    if len(payload) > _MAX_BYTES:
        raise NotTrustedError(f"{len(payload)} bytes are more than {_MAX_BYTES}, the most that key lists may have")
    payload = trimmed(payload)
    envelopes: Sequence[bytes] = (payload,)
    if payload.startswith(b"["):
        try:
            envelopes = [bytes(raw) for raw in msgspec.json.decode(payload, type=list[msgspec.Raw])]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotTrustedError(f"the key lists cannot be read: {error}") from error
    if not 0 < len(envelopes) <= _MAX_WORDS:
        raise NotTrustedError(f"there are {len(envelopes)} key lists; 1 to {_MAX_WORDS} are taken")
    return tuple(_word(envelope) for envelope in envelopes)


def is_trust_word(payload: bytes) -> bool:
    """Whether a payload is one signed key list or timestamp, whoever signed it."""
    if not is_envelope(payload):
        return False
    try:
        _word(payload)
    except NotTrustedError:
        return False
    return True


def _word(envelope: bytes) -> tuple[SignedKind, SignedContent]:
    signed = unsealed(envelope)
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = _KINDS.get(msgspec.json.decode(signed.content, type=_Typed).type)
        if kind is not None:
            return kind, signed
    raise NotTrustedError(
        "the envelope holds neither a key list nor a timestamp", hint="deployments go to verge/THING/deployments"
    )


# -- on disk -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredTrust:
    """What is on disk: the newest list as it was signed, and the freshness."""

    signed: SignedContent | None = None
    freshness: Freshness = field(default_factory=Freshness)

    @property
    def keys(self) -> KeyList | None:
        """The list."""
        return keylist.first(self.signed) if self.signed is not None else None


class _Row(msgspec.Struct, frozen=True):
    list: SignedEnvelope | None = None
    at: float | None = None
    kind: SignedKind | None = None
    stamped_at: float | None = None
    newest_list: int = 0


class KeyringFile:
    """The keyring on disk, in two files of which one is enough.  Every method blocks for a moment."""

    def __init__(self, folder: Path) -> None:
        self.paths = (folder / "keyring.json", folder / "keyring.2.json")

    def read(self) -> StoredTrust | None:
        """What was kept; None where there is nothing.  Raises ``NotTrustedError`` when all that is there is damaged."""
        there = [path for path in self.paths if path.exists()]
        good = [stored for path in there if (stored := _stored(path)) is not None]
        if there and not good:
            raise NotTrustedError(
                f"the keyring {self.paths[0]} is damaged, and so is its copy",
                hint="send a newer key list, or begin anew with the configuration's keys: `verge trust reset`",
            )
        return max(good, key=_newness, default=None)

    def write(self, stored: StoredTrust) -> None:
        """Keep it.  Raises ``OSError``."""
        signed, fresh = stored.signed, stored.freshness
        envelope = SignedEnvelope(base64.b64encode(signed.content).decode(), signed.signatures) if signed else None
        row = _Row(envelope, fresh.at, fresh.kind, fresh.stamped_at, fresh.newest_list)
        make_folder(self.paths[0].parent)
        for path in self.paths:
            write_checked(path, msgspec.json.encode(row))

    def remove(self) -> bool:
        """Forget it; whether there was one.  Raises ``OSError``."""
        there = [path for path in self.paths if path.exists()]
        for path in there:
            path.unlink()
        return bool(there)


def _stored(path: Path) -> StoredTrust | None:
    """What is in one file; None for a damaged one."""
    try:
        row = msgspec.json.decode(read_checked(path), type=_Row)
        signed = unsealed(msgspec.json.encode(row.list)) if row.list else None
        stored = StoredTrust(signed, Freshness(row.at, row.kind, row.stamped_at, row.newest_list))
        _ = stored.keys  # its own signatures have the last word
    except (OSError, DamagedFileError, msgspec.DecodeError, UnicodeDecodeError, NotTrustedError) as error:
        log.warning("%s cannot be used: %s", path, error)
        return None
    return stored


def _newness(stored: StoredTrust) -> tuple[int, float]:
    keys = stored.keys
    return (keys.version if keys else 0, stored.freshness.at or 0.0)


# -- in use ------------------------------------------------------------------------------------------------------------


Answered: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    payload: bytes
    answered: Answered


class Keyring:
    """Decides on documents as its ``policy`` says, and takes key lists and timestamps while ``serve`` runs.

    ``report`` gets what is to be retained on ``…/trust/status``; without ``file`` nothing is kept.
    """

    def __init__(
        self,
        policy: TrustPolicy,
        *,
        thing: str,
        file: KeyringFile | None = None,
        signed: SignedContent | None = None,
        report: Callable[[bytes], None] = lambda _payload: None,
    ) -> None:
        self.policy = policy
        self._thing = thing
        self._file = file
        self._signed = signed
        """The list of the configuration, then the list in use, as it was signed."""
        self._report = report
        self._inbox: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._trouble = ""
        self._refused: Mapping[str, Any] | None = None
        self._quiet_until, self._untold = 0.0, 0
        """Until when refusals are counted and not logged, and how many were."""
        self._dropped = 0
        """Messages that found the inbox full, or were too large for it."""
        self._kept = StoredTrust()

    @property
    def in_use(self) -> bool:
        """Whether there is a key, without which no list can be taken."""
        return bool(self.policy.keys.keys)

    def configure(self, keys: KeyList) -> None:
        """Have other keys of the configuration; a signed list that came meanwhile goes before them."""
        if self._signed is None:
            self.policy = replace(self.policy, keys=keys)
        else:
            log.warning("a signed key list is in use and goes before the trusted_keys of the configuration")

    # -- documents -------------------------------------------------------------------------------------------

    def admit(self, payload: bytes, *, thing: str, now: float, again: bool = False, local: bool = False) -> Admission:
        """As ``TrustPolicy.admit``."""
        if is_trust_word(payload):
            raise NotTrustedError(
                "this is a key list or a timestamp and no deployment", hint=f"send it to verge/{thing}/trust"
            )
        admission = self.policy.admit(payload, thing=thing, now=now, again=again, local=local)
        if admission.signers and self._trouble:
            raise NotTrustedError(self._trouble, hint="send a newer key list, or say `verge trust reset` there")
        return admission

    def authorize(self, admission: Admission, scope: Scope) -> None:
        """As ``TrustPolicy.authorize``; a document that may is a signed word."""
        self.policy.authorize(admission, scope)
        if admission.signers:
            self._now_fresh(self.policy.freshness.after(admission.signed_at, SignedKind.DOCUMENT, time.time()))

    def relink(self, link: Link) -> None:
        """What the connection has proved from now on."""
        self.policy = replace(self.policy, link=link)

    # -- key lists and timestamps ----------------------------------------------------------------------------

    def open(self) -> None:
        """Take up what was kept, or what the configuration says where that is newer.  Blocks for a moment."""
        try:
            stored = self._file.read() if self._file else None
        except NotTrustedError as error:
            self._trouble = str(error)
            log.warning("%s", error)
            return
        configured = self._signed
        if stored is None or stored.signed is None:
            fresh = stored.freshness if stored else Freshness()
            self.policy = replace(
                self.policy, freshness=fresh.after(self.policy.keys.issued, SignedKind.KEYS, time.time())
            )
        else:
            self._signed = stored.signed
            configured_list = self.policy.keys
            self.policy = replace(self.policy, keys=keylist.first(stored.signed), freshness=stored.freshness)
            self._take_configured(configured, configured_list)
        self._keep()

    def _take_configured(self, signed: SignedContent | None, configured: KeyList) -> None:
        """Go over to the configuration's list where it is newer than the one that was kept."""
        here = self.policy.keys.version
        if signed is None or configured.version <= here:
            if configured.keys:
                log.info("key list %d is in use, and not that of the configuration: it is newer", here)
            return
        try:
            self.take(SignedKind.KEYS, signed)
        except NotTrustedError as error:
            self._note_refused(error)

    def take(self, kind: SignedKind, signed: SignedContent) -> None:
        """Take a key list or a timestamp.  Raises ``NotTrustedError``."""
        now, policy = time.time(), self.policy
        if kind is SignedKind.STILL_VALID:
            self._now_fresh(stamped(policy.freshness, signed, policy.keys, now))
            return
        new = keylist.successor(policy.keys, signed)
        fresh = policy.freshness.with_keys(policy.keys, new, now)
        gone = [str(key) for identity, key in policy.keys.keys.items() if identity not in new.keys]
        log.warning("key list %d is in use%s", new.version, f"; revoked: {', '.join(gone)}" if gone else "")
        self._signed, self._trouble = signed, ""
        self.policy = replace(policy, keys=new, freshness=fresh)

    def take_all(self, payload: bytes) -> None:
        """Take what a payload holds, in order; old lists among newer ones are passed over.

        Raises ``NotTrustedError`` for the first that may not be taken.
        """
        words = trust_words(payload)
        here = self.policy.keys.version
        newer = [
            word for word in words if word[0] is not SignedKind.KEYS or keylist.read(word[1].content).version > here
        ]
        for kind, signed in newer or words[-1:]:
            if kind is SignedKind.KEYS and signed == self._signed:
                continue  # a retained list comes again with every connection
            self.take(kind, signed)

    def submit(self, payload: bytes, answered: Answered = lambda _reason: None) -> None:
        """Have a payload wait for its turn; ``answered`` gets why it was refused, or nothing."""
        if len(self._inbox) >= _INBOX or len(payload) > _MAX_BYTES:
            self._dropped += 1
            self._news.set()
            answered(f"more than {_INBOX} key lists came at once, or one of more than {_MAX_BYTES} bytes")
            return
        self._inbox.append(_Waiting(payload, answered))
        self._news.set()

    async def serve(self, transport: Transport, topic: str) -> None:
        """Take what comes on ``topic``, and report, until cancelled."""

        def on_message(message: Message) -> None:
            if message.payload:
                self.submit(message.payload)

        topics = (topic, f"{topic}/timestamp")
        for one in topics:
            transport.subscribe(one, on_message, qos=1)
        try:
            while True:
                self._publish()
                await asyncio.sleep(_SETTLE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._news.wait()
                self._news.clear()
                while self._inbox:
                    waiting = self._inbox.popleft()
                    waiting.answered(self.receive(waiting.payload))
                    await asyncio.sleep(0)  # nothing else waits for all of them to be checked
                await asyncio.to_thread(self._keep)
        finally:
            for one in topics:
                transport.unsubscribe(one, on_message)

    def receive(self, payload: bytes) -> str:
        """Take a payload; why not, as a sentence, where it is refused."""
        try:
            self.take_all(payload)
        except NotTrustedError as error:
            self._note_refused(error)
            return str(error)
        self._refused = None
        return ""

    def _pause_s(self) -> float:
        """Until the next report: the age grows, and the moment at which the silence is too long is told at once."""
        longest, age = self.policy.max_silence_s, self.policy.freshness.age(time.time())
        if longest is None or age is None or age > longest:
            return _REPORT_S
        return min(_REPORT_S, longest - age + 0.05)

    def _note_refused(self, error: VergeError) -> None:
        """Keep the last refusal; whoever sends what is refused, again and again, does not fill the log."""
        now = time.monotonic()
        if now < self._quiet_until:
            self._untold += 1
        else:
            more = f"; {self._untold} more since the last line" if self._untold else ""
            log.warning("a key list or timestamp is refused: %s%s", error, more)
            self._quiet_until, self._untold = now + _QUIET_S, 0
        self._refused = {"at": utc(time.time()), "code": error.code, "reason": error.message, "hint": error.hint or ""}

    def _now_fresh(self, freshness: Freshness) -> None:
        self.policy = replace(self.policy, freshness=freshness)
        self._news.set()

    def _keep(self) -> None:
        now = StoredTrust(self._signed, self.policy.freshness)
        if self._file is None or self._trouble or now == self._kept or now == StoredTrust():
            return
        try:
            self._file.write(now)
        except OSError as error:
            log.warning("the keyring could not be kept: %s", error)
            return
        self._kept = now

    # -- out -------------------------------------------------------------------------------------------------

    def status(self, now: float) -> dict[str, Any]:
        """What is retained of it."""
        policy, fresh = self.policy, self.policy.freshness
        age = fresh.age(now)
        payload: dict[str, Any] = {
            "thing": self._thing,
            "accept": policy.accept,
            "keys": keylist.described(policy.keys) | {"expired": policy.keys.expired(now)},
            "last_word": {"kind": fresh.kind, "at": _iso(fresh.at)} if fresh.at is not None else None,
            "age_s": None if age is None else round(age),
            "max_silence_s": policy.max_silence_s,
            "silent": fresh.silent(now, policy.max_silence_s),
            "stamped_at": _iso(fresh.stamped_at),
            "missing_list": fresh.missing_list(policy.keys),
            "refused": self._refused,
            "dropped": self._dropped,
            "at": _iso(now),
        }
        return payload | ({"trouble": self._trouble} if self._trouble else {})

    def _publish(self) -> None:
        self._report(msgspec.json.encode(self.status(time.time())))


class KeyringJobs:
    """Jobs whose document is a signed key list or timestamp: they end as soon as it was taken or refused."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def takes(self, job: Job) -> bool:
        """Whether the job is for this and for no deployment."""
        return is_trust_word(job.document)

    def begin(self, job: Job, client: JobsClient) -> None:
        """Take it and report its end to ``client``."""

        def answered(reason: str) -> None:
            if reason:
                client.report(job, Status.REJECTED, {"reason": reason})
            else:
                client.report(job, Status.SUCCEEDED)

        self._keyring.submit(job.document, answered)


def _iso(moment: float | None) -> str | None:
    return None if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
