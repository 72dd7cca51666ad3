"""The active set is written down twice: in the ledger, and in a small checked file beside it.

The ledger's commit is the commit; the file follows.  Either alone brings the device back:

=====================================  =========================================================================
what is there at a start               what counts
=====================================  =========================================================================
both, the same                         either
the file is older, damaged or missing  the ledger: the plug was pulled between the two; the file is written anew
the file is newer                      the file: the ledger lost what it had committed (its log, or all of it)
the same number, another content       the file, which is checked as a whole; the ledger is damaged
another ledger's number                the file: the ledger is not of this device
the ledger cannot be read              the file
neither can be read                    nothing is deployed, and that is said
=====================================  =========================================================================

A ledger that does not count is set aside and begun anew from the file.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import msgspec

from agent.files import DamagedFileError, read_checked, write_checked

__all__ = ["ActiveRecord", "Trusted", "judge", "load", "store"]


class ActiveRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The active set and the one before it, as ``DeployedState.dump`` gives them."""

    ledger: int = 0
    """Which ledger numbered the set; 0 before there was one."""
    number: int = 0
    """Grows with each commit; 0 on a new device."""
    current: bytes | None = None
    previous: bytes | None = None


class Trusted(Enum):
    """Which of two records counts."""

    LEDGER = "ledger"
    FILE = "file"
    NEITHER = "neither"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ActiveRecord).decode


def judge(ledger: ActiveRecord | None, file: ActiveRecord | None) -> Trusted:
    """Which one counts; None stands for what is missing or damaged."""
    if ledger is None or file is None:
        return Trusted.NEITHER if ledger is file else (Trusted.FILE if ledger is None else Trusted.LEDGER)
    if ledger.ledger != file.ledger and file.number:
        return Trusted.FILE
    if ledger.number != file.number:
        return Trusted.LEDGER if ledger.number > file.number else Trusted.FILE
    return Trusted.LEDGER if ledger.current == file.current else Trusted.FILE


def load(path: Path) -> ActiveRecord | None:
    """The record in the file; None where there is none.  Raises ``DamagedFileError`` and ``OSError``."""
    try:
        return _decode(read_checked(path))
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DamagedFileError(f"{path} is none of this program's: {error}") from error


def store(path: Path, record: ActiveRecord) -> None:
    """Write the record down.  Raises ``OSError``."""
    write_checked(path, _encode(record))
