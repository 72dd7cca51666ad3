"""How long a device has been without a signed word, and what it does about it.

Whoever holds back news (a broker, a network) cannot forge them; he can only let a device believe that there are none.
So a device says of when the newest signed word is that it has: a document, a key list, or a timestamp, which says that
nothing changed until then and which list is the newest::

    {"type": "verge-still-valid", "at": "2026-11-28T20:00:00Z", "keys": 3}

- The age counts from the time that the signer wrote, not from the arrival: an old word that is sent again is as old
  as it was.
- A timestamp of an earlier time than the newest one changes nothing.  One from the future is refused: it would make
  the true ones old.
- A timestamp that names a newer key list than the device has means that a list is being kept from it: until it comes,
  nothing that the old list's keys sign is taken.
- A key list with other keys for timestamps forgets what the old ones said.

Where the configuration sets the longest silence, a device that has been without a word for longer takes only documents
that were signed within that time.  What runs goes on.

A device that has timestamps of 8:00 and 9:00 gets the first again at 12:00: the age is 3 h.  With a limit of 2 h it
takes a document that was signed at 11:30, which ends the silence, and refuses one of 9:30.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from agent.greengrass.trust.keylist import KeyList
from agent.greengrass.trust.signatures import NotTrustedError, SignedContent, SignedKind, signers

__all__ = ["STILL_VALID_TYPE", "Freshness", "StillValid", "stamped"]

STILL_VALID_TYPE: Final = "verge-still-valid"
AHEAD_S: Final = 86_400.0
"""How far the clocks of a signer and a device may be apart."""


class StillValid(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A timestamp as it is signed: at that time the newest key list was this one."""

    type: Literal["verge-still-valid"]
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    keys: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a device knows of its signed words: of when the newest is, and which key list they call the newest."""

    at: float | None = None
    kind: SignedKind | None = None
    stamped_at: float | None = None
    """Of when the newest timestamp is."""
    newest_list: int = 0

    def age(self, now: float) -> float | None:
        """Seconds since the newest word was signed; None where there was none."""
        return None if self.at is None else max(0.0, now - self.at)

    def silent(self, now: float, longest_s: float | None) -> bool:
        """Whether it has been without a word for too long."""
        age = self.age(now)
        return longest_s is not None and (age is None or age > longest_s)

    def after(self, at: float | None, kind: SignedKind, now: float) -> Freshness:
        """Once a word was taken that says it is of ``at``; what is ahead of the device's clock counts as of now."""
        at = None if at is None else min(at, now)
        if at is None or (self.at is not None and at <= self.at):
            return self
        return replace(self, at=at, kind=kind)

    def with_keys(self, old: KeyList, new: KeyList, now: float) -> Freshness:
        """Once ``new`` took the place of ``old``."""
        kept = self if old.timestamp == new.timestamp else replace(self, stamped_at=None, newest_list=0)
        return kept.after(new.issued, SignedKind.KEYS, now)

    def missing_list(self, keys: KeyList) -> int | None:
        """The version of a key list that there is and that this device does not have."""
        return self.newest_list if self.newest_list > keys.version else None


def stamped(freshness: Freshness, signed: SignedContent, keys: KeyList, now: float) -> Freshness:
    """Once a timestamp came; an old one changes nothing.  Raises ``NotTrustedError`` for one that does not count."""
    try:
        stamp = msgspec.json.decode(signed.content, type=StillValid)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTrustedError(f"the timestamp cannot be read: {error}", hint="`verge trust stamp` makes one") from error
    came = keys.timestamp.signed(signers(SignedKind.STILL_VALID, signed.content, signed.signatures, keys.keys))
    if came < keys.timestamp.threshold:
        raise NotTrustedError(
            f"the timestamp has {came} of the {keys.timestamp.threshold} signatures that it needs of this device's "
            f"key list (version {keys.version})",
            hint="sign it with a key of the role timestamp: `verge trust stamp`",
        )
    at = stamp.at.timestamp()
    if at > now + AHEAD_S:
        here = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"
        raise NotTrustedError(
            f"the timestamp is of {stamp.at.isoformat()}, and it is {here} here",
            hint="set the clock of the signer, or of this device",
        )
    if freshness.stamped_at is not None and at <= freshness.stamped_at:
        return freshness
    newest = max(freshness.newest_list, stamp.keys)
    return replace(freshness, stamped_at=at, newest_list=newest).after(at, SignedKind.STILL_VALID, now)
