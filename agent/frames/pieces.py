"""A picture that comes in pieces, because the sender's client or broker takes small messages only.

A piece is a JSON object with a number that says which it is, a number that says how many there are, and a part of the
picture under an image key::

    {"pic_id": "a7", "pos": 3, "size": 12, "data": "…"}        {"part": 4, "total": 12, "data": "…"}

What the numbers count is not said: pieces from 0 or from 1, characters, or bytes.  So a set is whole as soon as it is
in one of these ways.  A picture that is whole by itself is no piece, whatever numbers stand beside it.

Sets are kept per camera and id (``_IDS``).  A set is given up when no piece came for ``PATIENCE_S``, when another
picture begins in its place, and where it, or all sets together, would be larger than allowed.  Pieces of one set may
come in any order if they have an id that the camera's last picture had not.  Else they come in theirs, as MQTT brings
them, and one that goes back begins another picture: halves of two pictures are never put together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Generic, TypeVar

import msgspec

from agent.errors import FrameError
from agent.frames import spelling
from agent.frames.envelope import Fact, ImageCandidate, Members, plain

__all__ = [
    "INCOMPLETE", "MAX_PIECES", "MAX_SETS", "NO_ROOM", "PATIENCE_S", "TOO_LARGE", "Lost", "Piece", "PieceSets", "Place",
    "Taken", "piece", "place",
]  # fmt: skip

Token = TypeVar("Token")

PATIENCE_S: Final = 30.0
MAX_PIECES: Final = 4096
"""Of one picture."""
MAX_SETS: Final = 64
"""Under way at a time; past that the one that waits longest is given up."""

INCOMPLETE: Final = "incomplete"
TOO_LARGE: Final = "pieces-too-large"
NO_ROOM: Final = "pieces-no-room"

_AT = (
    "part", "partnumber", "partno", "partindex", "chunk", "chunkindex", "chunkid", "chunknumber", "chunkno", "piece",
    "index", "idx", "packet", "packetnumber", "segment", "fragment", "seq", "sequence", "position", "pos", "offset",
)  # fmt: skip
_OF = (
    "total", "totalparts", "parts", "partcount", "totalchunks", "chunks", "chunkcount", "maxchunks", "numchunks",
    "pieces", "totalpieces", "count", "packets", "totalpackets", "segments", "totalsegments", "fragments",
    "totalfragments", "size", "totalsize", "filesize", "length", "totallength",
)  # fmt: skip
_IDS = (
    "id", "picid", "pictureid", "imageid", "imgid", "photoid", "frameid", "fileid", "transferid", "uuid", "imagename",
    "filename", "file", "name",
)  # fmt: skip
_LARGEST = 1 << 32
_CAMERAS = 1024

_SAMPLE = 64
_MOST_MEMBERS = 64
"""Of the object around a piece."""
_SPELLED = re.compile(rb'\[|"(?:[\w+/=:;,-]|\\[nrt/])+"?\Z')
"""What a part of a picture may look like: numbers, or characters of base64, hexadecimal and data URIs."""
_NUMBER = msgspec.json.Decoder(int)
_ID = msgspec.json.Decoder(int | str)
_MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Which piece of which picture: ``at`` of ``of``, whatever those count."""

    at: int
    of: int
    id: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a picture: its text, or its bytes where they came as numbers; and what stood beside it."""

    place: Place
    data: bytes
    facts: Mapping[str, Fact]

    def __str__(self) -> str:
        return f"{self.place.at} of {self.place.of}"


def place(candidate: ImageCandidate) -> Place | None:
    """Which piece a value would be by what stands beside it; None where that says nothing."""
    if (
        not candidate.around
        or len(candidate.around[0]) > _MOST_MEMBERS
        or not _SPELLED.match(bytes(memoryview(candidate.value)[:_SAMPLE]))
    ):
        return None
    by_key = {plain(key): value for key, value in candidate.around[0].items()}
    if by_key.keys().isdisjoint(_AT) or by_key.keys().isdisjoint(_OF):
        return None
    at, of = _first_number(by_key, _AT), _first_number(by_key, _OF)
    if at is None or of is None or not 2 <= of <= _LARGEST or at > of:  # noqa: PLR2004 one piece is the whole
        return None
    return Place(at, of, _identity(by_key))


def piece(candidate: ImageCandidate, where: Place) -> Piece:
    """The piece that a value is; raises ``FrameError`` for a text or a list that cannot be read."""
    facts = {key: fact for key, fact in candidate.facts().items() if plain(key) not in _AT}
    return Piece(where, candidate.text(), facts)


@dataclass(frozen=True, slots=True)
class Lost(Generic[Token]):
    """A set that was given up; ``token`` came with its last piece."""

    camera: str
    token: Token
    reason: str


@dataclass(frozen=True, slots=True)
class Taken(Generic[Token]):
    """What became of a piece."""

    began: bool
    """It is the first of its set."""
    whole: bytes | None = None
    """The picture, as a payload, where the piece was the last that it wanted."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    lost: tuple[Lost[Token], ...] = ()
    """Sets that were given up for it, its own among them."""


@dataclass(slots=True)
class _Set(Generic[Token]):
    of: int
    facts: Mapping[str, Fact]
    token: Token
    last: float
    in_order: bool
    """Nothing but the order of its pieces tells it from the next picture."""
    data: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    decoded: int = 0
    """The same in bytes, where the pieces are base64."""
    highest: int = -1
    over: bool = False
    """It was given up; what still comes of it is passed over."""

    def add(self, given: Piece, token: Token, now: float) -> None:
        before = self.data.get(given.place.at, b"")
        self.size += len(given.data) - len(before)
        self.decoded += _decoded_length(given.data) - _decoded_length(before)
        self.data[given.place.at] = given.data
        self.highest = max(self.highest, given.place.at)
        self.token, self.last = token, now

    def begins_another(self, given: Piece) -> bool:
        """Whether a piece cannot be of this set."""
        at = given.place.at
        known = self.data.get(at)
        back = at < self.highest and (self.in_order or self.over)
        return given.place.of != self.of or back or (known is not None and known != given.data)

    def whole(self) -> bytes | None:
        """The picture as a payload, once the pieces follow each other without a gap in what they count."""
        places = sorted(self.data)
        pieces = len(places) == self.of and places[-1] - places[0] == self.of - 1 and places[0] <= 1
        # One piece alone is a picture, and was taken for one: it only has as many bytes as there are to be pieces.
        several = len(places) > 1
        characters = several and self.size == self.of and self._follow(places, len)
        octets = several and self.decoded == self.of and self._follow(places, _decoded_length)
        if pieces or characters or octets:
            return _joined([self.data[at] for at in places])
        return None

    def _follow(self, places: list[int], length: Callable[[bytes], int]) -> bool:
        ends = accumulate((length(self.data[at]) for at in places[:-1]), initial=0)
        return places == [*ends]


class PieceSets(Generic[Token]):
    """The sets of one stream, each with the token of its last piece.

    ``max_bytes`` bounds what one picture is made of, and twice that what waits in all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sets: dict[tuple[str, str], _Set[Token]] = {}
        self._ended: dict[str, str] = {}
        """Camera → the id of its last set that came to an end."""

    def put(self, camera: str, given: Piece, token: Token, now: float) -> Taken[Token]:
        """Take a piece at ``now``, in seconds of any clock that does not step."""
        key = camera, given.place.id
        lost = [*self.expire(now)]
        known = self._sets.get(key)
        if known is not None and known.begins_another(given):
            lost += self._give_up(key, INCOMPLETE)
            known = None
        began = known is None
        if known is None:
            in_order = not given.place.id or self._ended.get(camera) == given.place.id
            known = self._sets[key] = _Set(given.place.of, given.facts, token, now, in_order)
        if known.over:
            known.highest, known.last = max(known.highest, given.place.at), now
            return Taken(began=False, lost=tuple(lost))
        known.add(given, token, now)
        whole = known.whole()
        if whole is not None:
            self._end(key)
            return Taken(began, whole, known.facts, tuple(lost))
        return Taken(began, lost=(*lost, *self._bounded(key, camera, known)))

    def expire(self, now: float) -> Iterator[Lost[Token]]:
        """Give up what no piece came for."""
        for key in [key for key, known in self._sets.items() if now - known.last >= PATIENCE_S]:
            yield from self._give_up(key, INCOMPLETE)

    def clear(self, reason: str) -> Iterator[Lost[Token]]:
        """Give up everything."""
        for key in list(self._sets):
            yield from self._give_up(key, reason)

    @property
    def due(self) -> float | None:
        """When the next set is given up, should no piece come."""
        return min((known.last + PATIENCE_S for known in self._sets.values()), default=None)

    def _give_up(self, key: tuple[str, str], reason: str) -> Iterator[Lost[Token]]:
        given_up = self._end(key)
        if not given_up.over:
            yield Lost(key[0], given_up.token, reason)

    def _end(self, key: tuple[str, str]) -> _Set[Token]:
        camera, identity = key
        self._ended.pop(camera, None)
        self._ended[camera] = identity
        if len(self._ended) > _CAMERAS:
            del self._ended[next(iter(self._ended))]
        return self._sets.pop(key)

    def _bounded(self, key: tuple[str, str], camera: str, latest: _Set[Token]) -> Iterator[Lost[Token]]:
        if latest.size > self._max_bytes or len(latest.data) > MAX_PIECES:
            latest.over, latest.size, latest.decoded = True, 0, 0
            latest.data.clear()
            yield Lost(camera, latest.token, TOO_LARGE)
        others = sorted((other for other in self._sets if other != key), key=lambda other: self._sets[other].last)
        for oldest in others:
            size = sum(known.size for known in self._sets.values())
            if len(self._sets) <= MAX_SETS and size <= 2 * self._max_bytes:
                return
            yield from self._give_up(oldest, NO_ROOM)


def _first_number(by_key: Members, keys: tuple[str, ...]) -> int | None:
    for key in keys:
        if key in by_key:
            try:
                number = _NUMBER.decode(by_key[key])
            except msgspec.DecodeError:
                continue
            return number if number >= 0 else None
    return None


def _identity(by_key: Members) -> str:
    for key in _IDS:
        value = by_key.get(key)
        if value is not None and len(memoryview(value)) <= _MAX_ID:
            try:
                return str(_ID.decode(value))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return ""


def _decoded_length(data: bytes) -> int:
    """Bytes that a piece of base64 stands for."""
    return len(data.rstrip(b"=")) * 3 // 4


def _joined(pieces: list[bytes]) -> bytes:
    """One text of which each has a part; where each is base64 of its own, its padding inside says so."""
    if not any(b"=" in part for part in pieces[:-1]):
        return b"".join(pieces)
    try:
        return b"".join(map(spelling.read, pieces))
    except FrameError:
        return b"".join(pieces)
