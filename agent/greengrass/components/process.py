"""One script: ``sh -c`` in a session of its own, its output as two streams, its end as a number.

The shell is started behind a gate: it waits for a line on its input before it turns into the script, so that limits and
records are in place before anything of the component runs; an agent that dies in between leaves a shell that ends.

The pipes are made here and not by asyncio, whose ``wait`` may wait for the pipes as well: a daemon that a script left
behind keeps them open for as long as it lives, and the script is over all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from agent.greengrass.components.identity import Identity
from agent.greengrass.components.kin import Kin, kin_of

__all__ = ["Script"]


_GATE = 'read -r _ && exec "$0" -c "$1"'


class Script:
    """A script that waits for ``go``; ``kin`` is its shell, ``stdout`` and ``stderr`` are its output."""

    def __init__(self, process: asyncio.subprocess.Process, kin: Kin, pipes: _Pipes) -> None:
        self._process = process
        self._pipes = pipes
        self.kin = kin
        self.stdout = pipes.stdout
        self.stderr = pipes.stderr

    @classmethod
    async def start(
        cls, script: str, *, work: Path, env: Mapping[str, str], who: Identity | None, shell: str
    ) -> Script:
        """Have a script ready in ``work``, as another user if ``who`` is given; raises ``OSError``."""
        pipes = await _Pipes.open()
        user, group, groups = (who.uid, who.gid, who.groups) if who else (None, None, None)
        try:
            process = await asyncio.create_subprocess_exec(
                shell, "-c", _GATE, shell, script,
                cwd=work, env=dict(env), start_new_session=True, user=user, group=group, extra_groups=groups,
                stdin=pipes.child[0], stdout=pipes.child[1], stderr=pipes.child[2],
            )  # fmt: skip
        except (subprocess.SubprocessError, ValueError) as error:
            pipes.close()
            raise OSError(str(error)) from error
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_child()
        # A shell that is over already has left nothing to find under this name.
        return cls(process, kin_of(process.pid) or Kin(process.pid, -1), pipes)

    def go(self) -> None:
        """Let it run; raises ``OSError`` when its shell is gone."""
        self._pipes.tell(b"\n")

    async def wait(self) -> int:
        """The exit status; negative is the signal that ended it."""
        status = await self._process.wait()
        self._pipes.close_stdin()
        return status

    def close(self) -> None:
        """Let go of the pipes, whoever still holds their other ends."""
        self._pipes.close()


class _Pipes:
    """Standard input (open and silent), output and error of a script."""

    def __init__(self) -> None:
        stdin, self._stdin = os.pipe()
        self._ours: list[int] = []
        self.child = [stdin]
        for _ in range(2):
            ours, theirs = os.pipe()
            self._ours.append(ours)
            self.child.append(theirs)
        self._transports: list[asyncio.ReadTransport] = []
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()

    @classmethod
    async def open(cls) -> _Pipes:
        pipes = cls()
        loop = asyncio.get_running_loop()
        for descriptor, reader in zip(pipes._ours, (pipes.stdout, pipes.stderr), strict=True):
            file = os.fdopen(descriptor, "rb", buffering=0)
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), file)
            pipes._transports.append(transport)
        return pipes

    def tell(self, line: bytes) -> None:
        os.write(self._stdin, line)

    def close_child(self) -> None:
        for descriptor in self.child:
            os.close(descriptor)

    def close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def close(self) -> None:
        self.close_stdin()
        for transport in self._transports:
            with contextlib.suppress(RuntimeError):
                transport.close()
