"""How alike two texts are: by how many characters have to be changed, put in or taken out."""

from __future__ import annotations

from collections import defaultdict

__all__ = ["edits", "text_likeness"]


def text_likeness(one: str, other: str) -> float:
    """1 for the same text, less by the share of the longer one's characters that would have to be edited.

    >>> text_likeness("EXIT", "EX1T")
    0.75
    """
    longest = max(len(one), len(other))
    return 1.0 - edits(one, other) / longest if longest else 1.0


def edits(one: str, other: str) -> int:
    """The Levenshtein distance, a column of its table at a time in the bits of an integer.

    The formula is Myers' (A fast bit-vector algorithm for approximate string matching, 1999) as Hyyrö put it (2003).
    """
    if one == other or not one:
        return len(other) - len(one)
    places: dict[str, int] = defaultdict(int)
    for place, character in enumerate(one):
        places[character] |= 1 << place
    last, every = 1 << len(one) - 1, (1 << len(one)) - 1
    # Where the column's number is one more, or one less, than that above it.
    more, less, distance = every, 0, len(one)
    for character in other:
        same = places.get(character, 0)
        across = (((same & more) + more) ^ more) | same
        up, down = (less | ~(across | more)) & every, more & across
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        more, less = (down | ~(same | less | up)) & every, up & (same | less) & every
    return distance
