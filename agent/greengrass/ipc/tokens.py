"""The tokens of Greengrass's command line: a file for the agent's user, and one for each group that may use it.

``greengrass-cli`` reads ``cli_ipc_info/user-<uid>`` or ``cli_ipc_info/group-<gid>`` below the folder that its
``--ggcRootPath`` names, and connects to the socket with the token in it.  Who can read such a file may do with the
device what the command line may; so they are the owner's and the group's alone, and new at each start of the agent.
(aws-greengrass-cli, ``CLIService.java``.)
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from agent.files import make_folder, passage, remove_tree, write_atomically
from agent.greengrass.ipc.operations import Principal
from agent.greengrass.services.base import Configuration

__all__ = ["FOLDER", "CliTokens"]

log = logging.getLogger(__name__)

FOLDER: Final = "cli_ipc_info"
_PREFIX: Final = "greengrass-cli-"
_OF_GROUP: Final = 0o640


class CliTokens:
    """The tokens that are good while the agent runs; ``root`` is the agent's data folder."""

    def __init__(self, root: Path, socket: Path) -> None:
        self._folder = root / FOLDER
        self._socket = socket
        self._principals: dict[str, Principal] = {}

    def who(self, token: str) -> Principal | None:
        """Whose a token is; None where nobody's."""
        known = (one for one in self._principals if secrets.compare_digest(one.encode(), token.encode()))
        return next((self._principals[one] for one in known), None)

    def open(self) -> None:
        """Write the token of the agent's user; those of an earlier run are good no more.  Raises ``OSError``."""
        remove_tree(self._folder)
        make_folder(self._folder, passage(), ours=True)
        self._write(f"user-{os.geteuid()}")

    async def apply(self, configuration: Configuration | None) -> None:
        """Have the groups of ``AuthorizedPosixGroups`` find a token, and no others.  Raises ``OSError``."""
        named = str((configuration or {}).get("AuthorizedPosixGroups") or "")
        await asyncio.to_thread(self._admit, [name for one in named.split(",") if (name := one.strip())])

    def close(self) -> None:
        """Have no token be good any more."""
        self._principals.clear()
        remove_tree(self._folder)

    def _admit(self, groups: Iterable[str]) -> None:
        wanted = {f"group-{gid}": gid for name in groups if (gid := _gid(name)) is not None}
        for token, principal in tuple(self._principals.items()):
            file = principal.name.removeprefix(_PREFIX)
            if file.startswith("group-") and file not in wanted:
                del self._principals[token]
                (self._folder / file).unlink(missing_ok=True)
            wanted.pop(file, None)
        for file, gid in wanted.items():
            path = self._write(file)
            os.chown(path, -1, gid)
            path.chmod(_OF_GROUP)

    def _write(self, name: str) -> Path:
        token = secrets.token_hex(16).upper()
        self._principals[token] = Principal(f"{_PREFIX}{name}", is_cli=True)
        content = {"cli_auth_token": token, "domain_socket_path": os.path.abspath(self._socket)}  # noqa: PTH100 as it is
        path = self._folder / name
        write_atomically(path, msgspec.json.encode(content))
        return path


def _gid(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        log.warning("there is no group %s: nobody of it may use greengrass-cli", name)
        return None
