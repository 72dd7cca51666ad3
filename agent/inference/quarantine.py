"""Inputs that a worker was lost over, kept in a bounded folder for whoever mends the model."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from pathlib import Path

from agent.files import make_folder, write_atomically
from agent.frames.frame import Picture
from agent.inference.tensors import TensorInput

__all__ = ["Quarantine"]

log = logging.getLogger(__name__)

_SUFFIX = {"jpeg": ".jpg"}


class Quarantine:
    """At most ``keep`` inputs in ``folder``; the oldest go first.  A folder that cannot be written is reported."""

    def __init__(self, folder: Path, keep: int = 32) -> None:
        self.folder = folder
        self._keep = keep

    async def put(self, content: Picture | TensorInput, label: str) -> None:
        """Keep an input under its label and a digest of its bytes: the same input is kept once."""
        try:
            path = await asyncio.to_thread(self._write, content, label)
        except OSError as error:
            log.warning("an input could not be quarantined in %s: %s", self.folder, error.strerror)
        else:
            log.warning("the input is kept as %s", path)

    def _write(self, content: Picture | TensorInput, label: str) -> Path:
        if isinstance(content, Picture):
            data, suffix = bytes(content.data), _SUFFIX.get(content.encoding, f".{content.encoding}")
        else:
            data, suffix = content.npz(), ".npz"
        name = re.sub(r"[^\w.-]+", "_", label)[:80] or "input"
        path = self.folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}{suffix}"
        make_folder(self.folder, ours=True)
        write_atomically(path, data)
        kept = sorted(
            (entry for entry in self.folder.iterdir() if entry.is_file()), key=lambda entry: entry.stat().st_mtime
        )
        for old in kept[: -self._keep]:
            old.unlink(missing_ok=True)
        return path
