"""The data folder as the agent's own: locked, marked with its thing, and looked at while the agent runs.

What is the matter with it is a problem on the status topic: it cannot be made, it was removed or replaced (then it is
made and locked again), or another agent has it now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from agent import disk
from agent.config.load import OWNER, owner
from agent.disk import FolderInUseError, FolderLock
from agent.errors import UnreachableError, VergeError
from agent.files import write_atomically

__all__ = ["DataFolder"]

log = logging.getLogger(__name__)

_LOOK_S = 5.0


class DataFolder:
    """The folder of ``thing``; entering locks it and raises ``FolderInUseError`` where another agent has it."""

    def __init__(self, folder: Path, thing: str) -> None:
        self._folder = folder
        self._thing = thing
        self._lock = FolderLock(folder)

    def __enter__(self) -> Self:
        self._lock.__enter__()
        self._mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    async def watch(self, report: Callable[[VergeError | None], None]) -> None:
        """Look at the folder until cancelled; ``report`` gets what is the matter with it."""
        problem = self._trouble()
        while True:
            report(problem)
            await asyncio.sleep(_LOOK_S)
            if not self._lock.held:
                problem = self._renewed() or problem

    def _trouble(self) -> VergeError | None:
        error = self._lock.trouble
        if error is None:
            return None
        problem = UnreachableError(
            f"nothing can be kept in the data folder {self._folder}: {error.strerror}",
            code=disk.trouble_code(error),
            hint="set data_dir to a folder that the agent's user may write",
        )
        log.error("%s", problem)
        return problem

    def _renewed(self) -> VergeError | None:
        """Take the folder again; the result is what a person should know now."""
        before = self._lock.trouble
        try:
            self._lock.renew()
        except FolderInUseError as error:
            log.error("%s", error)  # noqa: TRY400 it is a sentence for people
            return error
        self._mark()
        if self._lock.trouble is not None:
            return self._trouble() if before is None else None
        problem = UnreachableError(
            f"the data folder {self._folder} was removed or replaced while the agent runs; it is made anew",
            code="data-folder-gone",
            hint="restart the agent, and deploy again what has lost its files",
        )
        log.error("%s", problem)
        return problem

    def _mark(self) -> None:
        if not owner(self._folder):
            with suppress(OSError):  # on a disk that takes nothing it is nobody's
                write_atomically(self._folder / OWNER, f"{self._thing}\n".encode())
