"""A backend's own options: the strict reader of options, with the two forms that only backends need."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from agent.inference.runtime.options import Options

__all__ = ["Settings"]


class Settings(Options):
    """A manifest's ``[backend_options]``."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given, "backend_options")

    def text(self, key: str) -> Optional[str]:
        """A string that is not empty; None where the manifest leaves it open."""
        value = self._take(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self._wrong(key, "a string")

    def mapping(self, key: str) -> Dict[str, str]:
        """A table of a foreign library's own options, as the strings that it takes."""
        value = self._take(key, {})
        if isinstance(value, Mapping):
            return {str(name): str(entry) for name, entry in value.items()}
        self._wrong(key, "a table")
