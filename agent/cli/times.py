"""Times as a person reads them: local, to the second."""

from __future__ import annotations

from datetime import datetime

__all__ = ["local"]


def local(text: str) -> str:
    """A time of a payload on this machine's clock; what is none stays as it is.

    >>> local("soon")
    'soon'
    """
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
