"""The result of a check: OK, a warning or a failure, and how to mend it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self

from agent.errors import VergeError

__all__ = ["Finding", "FindingStatus", "size"]

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class FindingStatus(enum.StrEnum):
    """The result's grade."""

    OK = "OK"
    WARN = "WARN"
    """The agent runs, with less than it could have."""
    FAIL = "FAIL"
    """The agent, or what the configuration asks of it, does not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``fix`` is empty where nothing is to be done."""

    check: str
    status: FindingStatus
    detail: str
    fix: str = ""

    @classmethod
    def ok(cls, check: str, detail: str) -> Self:
        """All is well."""
        return cls(check, FindingStatus.OK, detail)

    @classmethod
    def warn(cls, check: str, detail: str, fix: str) -> Self:
        """Worth a look."""
        return cls(check, FindingStatus.WARN, detail, fix)

    @classmethod
    def fail(cls, check: str, detail: str, fix: str) -> Self:
        """In the way."""
        return cls(check, FindingStatus.FAIL, detail, fix)

    @classmethod
    def of(cls, check: str, error: VergeError, status: FindingStatus = FindingStatus.FAIL) -> Self:
        """An error of ours as a finding."""
        return cls(check, status, error.message, error.hint or "")


def size(count: float) -> str:
    """A number of bytes for people.

    >>> size(1536), size(40)
    ('1.5 KiB', '40 bytes')
    """
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} bytes"
