"""Errors of the worker side: they cross to the core as code, message and hint, never pickled."""

from __future__ import annotations

from typing import Optional

__all__ = ["ModelError", "UnavailableError"]


class ModelError(Exception):
    """The model, its manifest or a picture cannot be used; ``code`` is stable, ``hint`` says what to do."""

    def __init__(self, code: str, message: str, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class UnavailableError(ModelError):
    """A backend, task or accelerator is not available in this interpreter."""
