"""Users: names and numbers of the recipe's world looked up in the machine's; whose files are whose.

Only an agent that is root can run anything as another user: scripts as the one that their recipe or deployment names or
as the default one, the workers of models as the default one too.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import ConfigError

__all__ = ["ROOT", "Identity", "RunAs", "give", "look_up", "may_reach", "may_read", "reclaim", "worker_user"]

_USUAL = ("ggc_user", "nobody")
"""Who runs the workers of models where nobody is named: Greengrass's user where there is one."""
_OF_DEVICES = ("video", "render", "plugdev", "apex", "gpio", "i2c", "spi")
"""Groups that may use accelerators and cameras; a worker keeps what root had of those."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """A user and, if it is not the user's own, a group; numbers may stand for names."""

    user: str
    group: str | None = None

    @classmethod
    def parse(cls, text: str) -> RunAs:
        """Read Greengrass's ``user:group``, where ``:group`` may be missing."""
        user, _, group = text.partition(":")
        return cls(user.strip(), group.strip() or None)


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


def worker_user(run_as: str) -> Identity | None:
    """Whom a root agent runs the workers of models as; None is the agent's own user.

    Raises ``ConfigError`` for a user or group that is not there.
    """
    if os.geteuid() != 0:
        return None
    try:
        who = look_up(RunAs.parse(run_as)) if run_as else next(filter(None, map(_usual, _USUAL)), None)
    except LookupError as error:
        raise ConfigError(str(error.args[0]), code="run-as-unknown", hint="name a user of this machine") from error
    if who is None or who.uid == 0:
        return None
    groups = {*who.groups, who.gid, *(entry.gr_gid for entry in grp.getgrall() if entry.gr_name in _OF_DEVICES)}
    return replace(who, groups=tuple(sorted(groups)))


def _usual(name: str) -> Identity | None:
    try:
        return look_up(RunAs(name))
    except LookupError:
        return None


def may_read(path: Path, who: Identity) -> bool:
    """Whether a file's or folder's own mode lets a user read it; the way there is another matter."""
    wanted = 0o5 if path.is_dir() else 0o4
    return _bits(path, who) & wanted == wanted


def may_reach(path: Path, who: Identity) -> bool:
    """Whether the modes of a file or folder and of every folder on the way there let a user read it.

    Raises ``OSError``.
    """
    path = path.resolve()
    return may_read(path, who) and all(_bits(folder, who) & 0o1 for folder in path.parents)


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


def reclaim(paths: Iterable[Path], user: int) -> None:
    """Remove what a user has below folders and take the folders from it; raises ``OSError``."""
    for path in paths:
        for place in (path, *sorted(path.rglob("*"))):
            facts = place.lstat() if place.is_symlink() or place.exists() else None
            if facts is None or facts.st_uid != user:
                continue
            if stat.S_ISDIR(facts.st_mode):
                os.chown(place, os.geteuid(), os.getegid(), follow_symlinks=False)
            else:
                place.unlink()


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


def _bits(path: Path, who: Identity) -> int:
    """What a user may do with a file or folder, by its own mode: 4 read, 2 write, 1 pass through."""
    facts = path.stat()
    shift = 6 if facts.st_uid == who.uid else 3 if facts.st_gid in who.groups else 0
    return facts.st_mode >> shift & 0o7
