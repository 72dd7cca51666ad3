"""Which combinations are worth measuring: what was left open is varied, what was said is kept."""

from __future__ import annotations

from collections.abc import Iterable

from agent.inference.tuning.values import Ability, Combination, Wish

__all__ = ["ANY", "candidates", "most_threads"]

ANY = "auto"
_MOST_THREADS = 4
"""Past four a small network gains nothing."""


def most_threads(cpus: int, workers: int) -> int:
    """How many threads each of a model's workers may sensibly have."""
    return max(1, min(_MOST_THREADS, cpus // max(1, workers)))


def candidates(wish: Wish, abilities: Iterable[Ability], cpus: int) -> tuple[Combination, ...]:
    """The combinations in the order in which they are tried; the first one that answers is the reference.

    >>> wish = Wish("auto", {}, "auto", 0, 1, {}, "", {})
    >>> [str(each) for each in candidates(wish, [Ability("litert", ("cpu",))], 2)]
    ['litert on cpu, 1 thread', 'litert on cpu, 2 threads']
    """
    counts = (wish.threads,) if wish.threads else range(1, most_threads(cpus, wish.workers) + 1)
    found = [
        Combination(ability.backend, accelerator, threads)
        for ability in abilities
        if ability.problem is None
        for accelerator in ((wish.accelerator,) if wish.accelerator != ANY else ability.accelerators)
        for threads in counts
    ]
    # The processor is where answers are most to be trusted: it comes first, and is what the others are held against.
    return tuple(sorted(found, key=lambda each: each.accelerator != "cpu"))
