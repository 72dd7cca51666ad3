"""The floor of a download's rate: a source that gives a byte now and then is as good as none.

Time is cut into windows; each has to bring its share of bytes, the first one the answer's head as well.  A window that
brought its share early ends then, so that a fast download costs one comparison a chunk.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from agent.greengrass.artifacts.errors import ArtifactUnreachableError

__all__ = ["RateFloor"]


class RateFloor:
    """Breaks off what is done while it is entered once a window brings less than ``bytes_per_s``; 0 never does.

    Leaving it then raises ``ArtifactUnreachableError``; ``what`` is the source as it stands in sentences.
    """

    def __init__(self, what: str, bytes_per_s: int, window_s: float) -> None:
        self._what = what
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._share = bytes_per_s * window_s
        self._came = 0
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        self._timeout = asyncio.timeout(self._window_s if self._bytes_per_s else None)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            came = f"{self._came} bytes in {self._window_s:g} s"
            raise ArtifactUnreachableError(
                f"{self._what} gave {came}; {self._bytes_per_s} a second is the least",
                hint="if the link is that slow, lower artifacts.min_bytes_per_s",
            ) from error

    def came(self, size: int) -> None:
        """So many bytes came."""
        self._came += size
        if self._bytes_per_s and self._came >= self._share:
            self._came = 0
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._window_s)
