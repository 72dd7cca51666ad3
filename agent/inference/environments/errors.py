"""Errors of runtimes: one that cannot be had here, and one that cannot be had now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from agent.errors import InvalidInputError, UnreachableError

__all__ = ["CandidateFailedError", "IndexUnreachableError", "RuntimeUnreachableError", "UnsupportedRuntimeError"]


class UnsupportedRuntimeError(InvalidInputError):
    """No combination gives this runtime here; ``tried`` has a line for each combination and why it failed."""

    default_code: ClassVar[str] = "runtime-refused"

    def __init__(self, message: str, *, hint: str, tried: Sequence[str] = (), code: str | None = None) -> None:
        super().__init__("; ".join([message, *tried]), hint=hint, code=code)
        self.tried = tuple(tried)


class RuntimeUnreachableError(UnreachableError):
    """The runtime might be had, but the package index cannot be reached, or another build is under way."""

    default_code: ClassVar[str] = "runtime-unreachable"

    def __init__(self, message: str, *, hint: str, tried: Sequence[str] = (), code: str | None = None) -> None:
        super().__init__("; ".join([message, *tried]), hint=hint, code=code)
        self.tried = tuple(tried)


class CandidateFailedError(Exception):
    """A candidate could not be built or proved; the text is why.  It never leaves this package."""


class IndexUnreachableError(CandidateFailedError):
    """The candidate fell because the package index could not be reached."""
