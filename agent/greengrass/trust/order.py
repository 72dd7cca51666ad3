"""The one order of all that may change the device: whether a document's turn has come, is over, or never comes.

Topics, jobs, shadows and command lines bring documents: late, twice, or out of an attacker's drawer.  ``policy`` says
who may send; this says whether what was sent still counts.  A document is ordered by its own time, never by the
device's clock, and whatever it came by, by these rules in this order:

- For another thing (``thing``, or the thing in its ``configurationArn``): *not for me*.
- Its ``expires`` is over: *expired*.
- Without a time of its own it is neither old nor new, and moves nothing.  Signed, it is *unknown*: it could be sent
  again for ever.  Retained, it is *repeated* if it was taken before, and *unknown* once the record had to forget some.
- Of a time more than a day ahead: *too early*.  If it were taken, everything until then would be stale.
- Older than the newest of its group, or than the newest rollback: *stale*.  A rollback changes what every group wants,
  so it has to be newer than all of them, and from then on all of them have to be newer than it.
- Signed, and of the same time as the newest: *repeated* if it is the same document, *stale* if it is another.  Unsigned
  ones of the same time are taken, as Greengrass does with a revision that comes again; retained only if it did not
  come before.
- Everything else is *accepted*.

A signed document that cancels a deployment counts for one that was made before it: sent again it would otherwise cancel
every later deployment that has the same id.

The newest of a group is the newest that was **accepted**, whether or not its deployment succeeded: an attacker who can
make a deployment fail (a cut network is enough) must not bring the one before it back.  So that an owner may send a
document again whose deployment failed, it stays *open* until it begins to change something, or is cancelled; only then
is a signed document used up.  That is also why a deployment that a crash interrupted is not stale to itself.

A worked example; a signer's v1 and v2, a second apart, and the same bytes of v1 again:

>>> at = 1_700_000_000_000
>>> v1, v2 = Claims("digest-1", "lab", at), Claims("digest-2", "lab", at + 1000)
>>> def taken(record, claims):
...     decision = decide(claims, record, thing="press-7", now_ms=at, signed=True)
...     return closed(accepted(record, claims), claims) if decision.accepted else decision.verdict.value
>>> record = taken(taken(Record(), v1), v2)
>>> taken(record, v1), taken(record, v2), taken(record, Claims("digest-3", "lab", 99_999_999_999_999_999))
('stale', 'repeated', 'too early')

The device's clock is believed unless it is evidently not set: before this program was written, or a day earlier than
the newest document that was accepted.  Then nothing but a time past any device's life is too early, and what expired
before the newest document has expired.

The record only ever moves on: of two records that went different ways, ``joined`` is the one that is behind neither.
``forgotten`` alone takes a group's newest away, and makes a new *epoch* that counts more than any earlier one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Final

import msgspec

from agent.greengrass.errors import DeploymentError, DeploymentRejectedError
from agent.text import trimmed

__all__ = [
    "EVERY_GROUP",
    "Audience",
    "Claims",
    "Mark",
    "OrderDecision",
    "OrderVerdict",
    "Record",
    "accepted",
    "audience",
    "closed",
    "decide",
    "decide_cancellation",
    "forgotten",
    "joined",
    "migrated",
]

AHEAD_MS: Final = 24 * 3600 * 1000
"""How far a document's time may be ahead of a clock that is believed."""
_WRITTEN_MS: Final = 1_704_067_200_000
"""The beginning of 2024: a clock that shows an earlier time is not set."""
_LAST_MS: Final = 4_102_444_800_000
"""The year 2100: no document is of later."""
_MAX_GROUPS: Final = 128
_MAX_TAKEN: Final = 1000
EVERY_GROUP: Final = "*"
"""The group of rollbacks."""


# -- what a document says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom a document is, nobody named: for everybody; and until when, in milliseconds since the epoch."""

    things: frozenset[str] = frozenset()
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a document says of itself: ``digest`` is of its exact bytes, ``time_ms`` its own time if it has one."""

    digest: str
    group: str
    time_ms: int | None = None
    audience: Audience = field(default_factory=Audience)
    rollback: bool = False


class _Said(msgspec.Struct, frozen=True):
    thing: str | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    arn: str | None = msgspec.field(default=None, name="configurationArn")


_FOR_A_THING = re.compile(r"arn:[^:]*:greengrass:[^:]*:[^:]*:configuration:thing/([^:/]+)(?::[^:]*)?")


def audience(document: bytes) -> Audience:
    """For whom a document is and until when.  Raises ``DeploymentError`` where that cannot be read."""
    try:
        said = msgspec.json.decode(trimmed(document), type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeploymentError(
            f"for whom the document is and until when cannot be read: {error}",
            hint='"thing" is a name, "expires" a time with its zone: "2027-01-31T12:00:00Z"',
        ) from error
    target = _FOR_A_THING.fullmatch(said.arn or "")
    expires = None if said.expires is None else int(said.expires.timestamp() * 1e3)
    return Audience(frozenset(filter(None, (said.thing, target and target[1]))), expires)


# -- the record --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest document of a group that was accepted; ``closed`` once it changed something or was cancelled."""

    time_ms: int
    digest: str = ""
    closed: bool = False
    signers: tuple[str, ...] = ()
    """The ids of the keys that signed it."""

    def later(self, other: Mark | None) -> Mark:
        """The one that is further on."""
        return self if other is None else max(other, self, key=lambda mark: (mark.time_ms, mark.closed, mark.digest))


@dataclass(frozen=True, slots=True)
class Record:
    """What was accepted: the newest of each group, and the documents without a time of their own that were taken.

    Both are bounded.  ``floor_ms`` stands for the groups that had no room, ``forgot`` for the documents.
    """

    epoch: int = 0
    groups: Mapping[str, Mark] = field(default_factory=dict)
    floor_ms: int = 0
    taken: tuple[str, ...] = ()
    """Digests, the latest last."""
    forgot: bool = False

    @property
    def newest_ms(self) -> int:
        """The time of the newest document of all."""
        return max((self.floor_ms, *(mark.time_ms for mark in self.groups.values())))

    def newest(self, claims: Claims) -> Mark:
        """The newest document that these claims are to be compared with."""
        if claims.rollback:
            return _latest((Mark(self.floor_ms, closed=True), *self.groups.values()))
        own = self.groups.get(claims.group, Mark(self.floor_ms, closed=True))
        return own.later(self.groups.get(EVERY_GROUP))


def accepted(record: Record, claims: Claims, signers: tuple[str, ...] = ()) -> Record:
    """The record once the document is accepted."""
    if claims.time_ms is None:
        return _remembering(record, (*(one for one in record.taken if one != claims.digest), claims.digest))
    group = EVERY_GROUP if claims.rollback else claims.group
    mark = Mark(claims.time_ms, claims.digest, signers=signers).later(record.groups.get(group))
    return _bounded(record, {**record.groups, group: mark})


def closed(record: Record, claims: Claims) -> Record:
    """The record once the document is used up: if it is signed, it is not taken again."""
    group = EVERY_GROUP if claims.rollback else claims.group
    mark = record.groups.get(group)
    if mark is None or (mark.time_ms, mark.digest) != (claims.time_ms, claims.digest):
        return record
    return replace(record, groups={**record.groups, group: replace(mark, closed=True)})


def joined(one: Record, other: Record) -> Record:
    """The record that is behind neither."""
    if one.epoch != other.epoch:
        return max(one, other, key=lambda record: record.epoch)
    groups = {
        group: _latest(found for record in (one, other) if (found := record.groups.get(group)))
        for group in sorted({*one.groups, *other.groups})
    }
    both = replace(one, floor_ms=max(one.floor_ms, other.floor_ms), forgot=one.forgot or other.forgot)
    return _remembering(_bounded(both, groups), tuple(dict.fromkeys((*other.taken, *one.taken))))


def forgotten(record: Record, group: str | None, now_ms: int, *, entirely: bool = False) -> Record:
    """The record with nothing of that group, or of any, that is ahead of the clock; rollbacks bind every group.

    What was ahead is as if it were of now, so that nothing old counts again; ``entirely`` takes it away, and then old
    signed documents do.
    """

    def healed(mark: Mark) -> Mark | None:
        if entirely:
            return None
        return Mark(now_ms, closed=True, signers=mark.signers) if mark.time_ms > now_ms else mark

    meant = record.groups.keys() if group is None else {group, EVERY_GROUP}
    marks = {name: healed(mark) if name in meant else mark for name, mark in record.groups.items()}
    floor_ms = 0 if entirely and group is None else min(record.floor_ms, now_ms)
    kept = {name: mark for name, mark in marks.items() if mark is not None}
    return replace(record, epoch=record.epoch + 1, groups=kept, floor_ms=floor_ms)


def migrated(
    timestamps: Mapping[str, int], now_ms: int, taken: tuple[str, ...] = (), *, forgot: bool = False
) -> Record:
    """The record where there is none yet: from the times of the active set, and the digests of what was ``taken``.

    A time that is too early now was a clock's, and not a document's.
    """
    latest = _latest_believed(now_ms, 0)
    marks = {group: Mark(at, closed=True) for group, at in timestamps.items() if 0 < at <= latest}
    return _remembering(_bounded(Record(forgot=forgot), marks), taken)


def _latest(marks: Iterable[Mark]) -> Mark:
    first, *others = marks
    for mark in others:
        first = first.later(mark)
    return first


def _bounded(record: Record, groups: Mapping[str, Mark]) -> Record:
    kept, floor_ms = dict(groups), record.floor_ms
    while len(kept) > _MAX_GROUPS:
        floor_ms = max(floor_ms, kept.pop(_next_to_go(kept)).time_ms)
    return replace(record, groups=kept, floor_ms=floor_ms)


def _next_to_go(groups: Mapping[str, Mark]) -> str:
    """The oldest group of the signers who have most: whoever makes up groups makes room for them among his own."""
    has = Counter(mark.signers for mark in groups.values())
    return min(groups.keys() - {EVERY_GROUP}, key=lambda group: (-has[groups[group].signers], groups[group].time_ms))


def _remembering(record: Record, taken: tuple[str, ...]) -> Record:
    return replace(record, taken=taken[-_MAX_TAKEN:], forgot=record.forgot or len(taken) > _MAX_TAKEN)


# -- the decision ------------------------------------------------------------------------------------------------------


class OrderVerdict(Enum):
    """What becomes of a document."""

    ACCEPTED = "accepted"
    STALE = "stale"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    NOT_FOR_ME = "not for me"
    TOO_EARLY = "too early"
    EXPIRED = "expired"


_CODES: Final = {
    OrderVerdict.STALE: "REJECTED_STALE_DEPLOYMENT",
    OrderVerdict.REPEATED: "REJECTED_STALE_DEPLOYMENT",
    OrderVerdict.UNKNOWN: "ACCESS_DENIED",
    OrderVerdict.NOT_FOR_ME: "ACCESS_DENIED",
    OrderVerdict.TOO_EARLY: "DEPLOYMENT_DOCUMENT_NOT_VALID",
    OrderVerdict.EXPIRED: "ACCESS_DENIED",
}
"""In Greengrass's words."""


@dataclass(frozen=True, slots=True)
class OrderDecision:
    """What becomes of a document, why, and what its sender can do about it."""

    verdict: OrderVerdict
    reason: str = ""
    hint: str = ""

    @property
    def accepted(self) -> bool:
        """Whether it is taken."""
        return self.verdict is OrderVerdict.ACCEPTED

    @property
    def error(self) -> DeploymentRejectedError:
        """The refusal as whoever sent it gets it."""
        return DeploymentRejectedError(self.reason, code=_CODES[self.verdict], hint=self.hint)


def decide(
    claims: Claims, record: Record, *, thing: str, now_ms: int, signed: bool = False, retained: bool = False
) -> OrderDecision:
    """What becomes of a document that its sender may send.

    ``now_ms`` is the device's clock; ``retained``: the broker had kept it, so it may have come before.
    """
    others = claims.audience.things - {thing}
    if others:
        return OrderDecision(
            OrderVerdict.NOT_FOR_ME, f"the document is for the thing {min(others)}, and this is {thing}", _WHOM
        )
    expired = _expired(claims.audience.expires_ms, record, now_ms)
    if expired is not None:
        return expired
    if claims.time_ms is None:
        return _without_time(claims, record, signed=signed, retained=retained)
    if claims.time_ms > _latest_believed(now_ms, record.newest_ms):
        reason = f"the document is of {_date(claims.time_ms)}, and it is {_date(now_ms)} here"
        return OrderDecision(OrderVerdict.TOO_EARLY, reason, _LATER)
    return _compared(claims, claims.time_ms, record.newest(claims), signed=signed, retained=retained)


def decide_cancellation(claims: Claims, made_ms: int | None, *, signed: bool) -> OrderDecision:
    """What becomes of a document that ``decide`` took and that cancels a deployment which says it is of ``made_ms``."""
    if not signed or made_ms is None or claims.time_ms is None or claims.time_ms >= made_ms:
        return OrderDecision(OrderVerdict.ACCEPTED)
    reason = f"the cancellation is of {_date(claims.time_ms)}, and the deployment of {_date(made_ms)}: it meant another"
    return OrderDecision(OrderVerdict.STALE, reason, f"{_AGAIN}; or was the clock of its signer behind?")


_WHOM = "send it there, or sign one for this thing: verge trust sign --thing"
_AGAIN = "make it anew: verge trust sign gives it the present time"
_LATER = (
    "creationTimestamp counts milliseconds since 1970: is it in another unit, was the sender's clock ahead, or is this "
    "device's behind?"
)


def _heal(group: str) -> str:
    return (
        "send it with a new creationTimestamp; if the newest one was made by a clock that was ahead, "
        f"`verge trust forget {group}` on the device makes good for that"
    )


def _expired(expires_ms: int | None, record: Record, now_ms: int) -> OrderDecision | None:
    here_ms = now_ms if _believed(now_ms, record.newest_ms) else max(now_ms, record.newest_ms)
    if expires_ms is None or expires_ms > here_ms:
        return None
    return OrderDecision(
        OrderVerdict.EXPIRED, f"the document expired at {_date(expires_ms)}, and it is {_date(here_ms)} here", _AGAIN
    )


def _without_time(claims: Claims, record: Record, *, signed: bool, retained: bool) -> OrderDecision:
    if signed:
        reason = "the document is signed, but has no time of its own: it could be sent again for ever"
        return OrderDecision(OrderVerdict.UNKNOWN, reason, _AGAIN)
    if retained and claims.digest in record.taken:
        return OrderDecision(OrderVerdict.REPEATED, "the retained document was taken before")
    if retained and record.forgot:
        reason = "the retained document has no time of its own, so whether it was taken before is not known any more"
        return OrderDecision(OrderVerdict.UNKNOWN, reason, "give it a creationTimestamp, or send it without retain")
    return OrderDecision(OrderVerdict.ACCEPTED)


def _compared(claims: Claims, time_ms: int, newest: Mark, *, signed: bool, retained: bool) -> OrderDecision:
    of = "a rollback" if claims.rollback else f"group {claims.group}"
    same = claims.digest == newest.digest
    if time_ms > newest.time_ms or (time_ms == newest.time_ms and same and not newest.closed):
        return OrderDecision(OrderVerdict.ACCEPTED)
    if time_ms == newest.time_ms and same and (signed or retained):
        reason = f"the document of {_date(time_ms)} was taken already, and a signed one is taken once"
        return OrderDecision(OrderVerdict.REPEATED, reason, _AGAIN)
    if time_ms == newest.time_ms and not signed:
        return OrderDecision(OrderVerdict.ACCEPTED)
    how = "as old as" if time_ms == newest.time_ms else "older than"
    reason = f"the document is of {_date(time_ms)}, {how} the newest that was accepted, of {_date(newest.time_ms)}"
    return OrderDecision(OrderVerdict.STALE, f"{reason} ({of})", _heal(claims.group))


def _believed(now_ms: int, newest_ms: int) -> bool:
    """Whether the device's clock can be right: a right one is at most a day behind what was accepted."""
    return now_ms >= max(_WRITTEN_MS, newest_ms - AHEAD_MS)


def _latest_believed(now_ms: int, newest_ms: int) -> int:
    """The latest time that a document may be of."""
    return min(_LAST_MS, now_ms + AHEAD_MS) if _believed(now_ms, newest_ms) else _LAST_MS


def _date(at_ms: int) -> str:
    """A time for people; a number where it is past all calendars.

    >>> _date(1_700_000_000_123), _date(99_999_999_999_999_999)
    ('2023-11-14T22:13:20.123Z', '99999999999999999 ms')
    """
    try:
        return datetime.fromtimestamp(at_ms / 1e3, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"
