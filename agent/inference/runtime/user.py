"""A worker of an agent that is root becomes another user, before anything of a model is touched.

It is started without ``site``, so that nothing but Python's own library and this folder has run when the user changes;
what is installed for the model is found after that.  The user may not be let through to where Python, the agent or the
model lie (``/root`` is closed everywhere): such a folder is opened while that is still possible and named through the
descriptor from then on, which lets the user at what the folder's own modes allow and at nothing above it.
"""

from __future__ import annotations

import ctypes
import json
import os
import site
import sys
from typing import Any, Dict, List

__all__ = ["REACHED", "become", "original", "reachable"]

_PR_SET_DUMPABLE = 4
REACHED = "/proc/self/fd/"
"""What the names of closed folders begin with."""
_PLACES: Dict[str, str] = {}
"""Closed folders, and the names by which they are reached."""


def become(request: str) -> None:
    """Be the user that the core asks for (JSON: uid, gid, groups, folders); raises ``OSError`` where that fails."""
    wanted: Dict[str, Any] = json.loads(request)
    uid, gid = int(wanted["uid"]), int(wanted["gid"])
    os.setgroups(wanted["groups"])
    os.setegid(gid)
    os.seteuid(uid)
    program = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    for folder in [*_python_folders(), program, *wanted["folders"]]:
        _reach(folder, uid)
    _rename(program)
    os.seteuid(0)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if sys.platform == "linux":
        # As after a start as this user: its own files in /proc are the process's again.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 1)
    sys.path_importer_cache.clear()
    site.main()


def reachable(content: Any) -> Any:
    """The same with every path in it as this process reaches it."""
    if isinstance(content, dict):
        return {key: reachable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [reachable(value) for value in content]
    return _renamed(content) if isinstance(content, str) else content


def original(text: str) -> str:
    """A text for people: with the names that they know."""
    for folder, place in sorted(_PLACES.items(), key=lambda pair: -len(pair[1])):
        text = text.replace(place, folder)
    return text


def _python_folders() -> List[str]:
    folders = [*sys.path, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    for module in list(sys.modules.values()):
        folders += getattr(module, "__path__", ())
    return folders


def _reach(folder: str, uid: int) -> None:
    """Open a folder that the user is not let through to."""
    if not folder or folder in _PLACES or not _is_closed(folder):
        return
    os.seteuid(0)
    try:
        if os.path.exists(folder):  # Python looks in places that are not there
            _PLACES[folder] = f"{REACHED}{os.open(folder, os.O_PATH)}"
    finally:
        os.seteuid(uid)


def _is_closed(folder: str) -> bool:
    try:
        os.stat(folder)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _rename(program: str) -> None:
    """Have Python use the names by which it reaches its folders."""
    sys.path[:] = [_renamed(folder) for folder in sys.path]
    for module in list(sys.modules.values()):
        if isinstance(getattr(module, "__path__", None), list):
            module.__path__ = [_renamed(folder) for folder in module.__path__]
    for key in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        setattr(sys, key, _renamed(getattr(sys, key)))
    if program in _PLACES:
        sys.executable = _renamed(os.path.abspath(sys.executable))
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    if _PLACES:
        # A package that looks for its files where it really lies (OpenCV does) must not be led around the descriptors.
        resolved = os.path.realpath
        os.path.realpath = lambda *path, **how: _renamed(resolved(*path, **how))  # type: ignore[assignment]


def _renamed(path: str) -> str:
    best = max((folder for folder in _PLACES if path == folder or path.startswith(f"{folder}/")), key=len, default="")
    return f"{_PLACES[best]}{path[len(best) :]}" if best else path
