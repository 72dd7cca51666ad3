"""The data folder, which the agent writes, and the files with passwords, which it must keep to itself."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.config.load import Config
from agent.config.secrets import secrets_of
from agent.doctor.finding import Finding, size
from agent.files import under

__all__ = ["data_folder", "findings", "mode", "secret"]

_LEAST_FREE = 256 << 20


def findings(config: Config) -> list[Finding]:
    """Of the data folder, then of each broker's secrets."""
    return [data_folder(Path(config.data_dir)), *_secrets(config)]


def data_folder(folder: Path) -> Finding:
    """Whether the agent, run by this user, can write there, and how much."""
    check = "data folder"
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        return Finding.fail(check, f"{place} is a file", "set data_dir to a folder")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"verge")
    except OSError as error:
        fix = f"run as another user, set data_dir, or: sudo chown {os.getuid()} {place}"
        return Finding.fail(check, f"{place} cannot be written: {error.strerror}", fix)
    free = shutil.disk_usage(place).free
    detail = f"{folder}, {size(free)} free" + ("" if place == folder else ", made when the agent starts")
    if free < _LEAST_FREE:
        return Finding.warn(check, detail, "make room, or set data_dir to another disk")
    return Finding.ok(check, detail)


def secret(check: str, path: Path) -> Finding:
    """Whether nobody but its owner can read the file."""
    try:
        bits = mode(path)
    except OSError as error:
        return Finding.fail(check, f"{path}: {error.strerror}", "check the path and who may read it")
    if bits & 0o077:
        return Finding.warn(check, f"{path} has mode {bits:04o}: others can read it", f"chmod 600 {path}")
    return Finding.ok(check, f"{path}, mode {bits:04o}")


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def _secrets(config: Config) -> Iterator[Finding]:
    for name, options in config.transports.items():
        for key, file in secrets_of(options):
            if file is not None:
                yield secret(f"{key} {name}", under(config.folder, file))
            else:
                fix = f"put it into a file of mode 0600 and set {key}_file"
                yield Finding.warn(f"{key} {name}", "stands in the configuration", fix)
