"""Who a script runs as: names and numbers of the recipe's world looked up in the machine's."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.greengrass.components.spec import RunAs

__all__ = ["ROOT", "Identity", "give", "look_up"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as the kernel knows it, with the variables that go with it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @property
    def env(self) -> dict[str, str]:
        """What a login would set."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


ROOT = RunAs("0")


def look_up(who: RunAs) -> Identity:
    """The user behind a name or a number (``1000``, ``#1000``); raises ``LookupError`` with a sentence."""
    number = _number(who.user)
    try:
        entry = pwd.getpwnam(who.user) if number is None else pwd.getpwuid(number)
    except KeyError:
        if number is None or who.group is None:
            missing = "" if number is None else " and no group is given"
            raise LookupError(f"There is no user {who.user}{missing}.") from None
        return Identity(number, _group(who.group), (), str(number), "/")
    gid = entry.pw_gid if who.group is None else _group(who.group)
    return Identity(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)), entry.pw_name, entry.pw_dir)


def give(paths: Iterable[Path], who: Identity) -> None:
    """Make everything below the folders the user's own; raises ``OSError``.

    Neither links nor files with a second name are followed: either may lead to what is not the component's.
    """
    for path in paths:
        for _, folders, files, descriptor in os.fwalk(path, follow_symlinks=False):
            for name in (*folders, *files):
                facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                named_once = facts.st_nlink == 1 or name in folders
                if named_once and (facts.st_uid, facts.st_gid) != (who.uid, who.gid):
                    os.chown(name, who.uid, who.gid, dir_fd=descriptor, follow_symlinks=False)


def _group(text: str) -> int:
    number = _number(text)
    if number is not None:
        return number
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise LookupError(f"There is no group {text}.") from None


def _number(text: str) -> int | None:
    digits = text.removeprefix("#")
    return int(digits) if digits.isdecimal() else None
