"""The files that a configuration names: paths made absolute, secrets read, and none that others can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.errors import ConfigError

__all__ = ["with_files"]

Options = TypeVar("Options", bound=msgspec.Struct)

_SECRETS = {"password_file", "pin_file", "token_file"}
_FILES = {"ca_file", "cert_file", "key_file"}
_KEYS = {"key_file"}


def with_files(options: Options, folder: Path) -> Options:
    """Paths made absolute, secrets read from their files, in this table and those within."""
    changes: dict[str, Any] = {}
    for key in options.__struct_fields__:
        value = getattr(options, key)
        if isinstance(value, msgspec.Struct):
            changes[key] = with_files(value, folder)
        elif value and key in _SECRETS:
            changes[key.removesuffix("_file")] = _secret(folder / Path(value).expanduser())
        elif value and key in _FILES:
            changes[key] = str(folder / Path(value).expanduser())
            if key in _KEYS:
                _check_key(Path(changes[key]))
    return msgspec.structs.replace(options, **changes)


def _check_key(path: Path) -> None:
    """Refuse a private key that everybody can read; a group of services may share one."""
    if path.exists() and path.stat().st_mode & 0o007:
        raise ConfigError(f"the key {path} can be read by others", code="secret-exposed", hint=f"chmod o= {path}")


def _secret(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"the secret {path} cannot be read: {error.strerror}", code="secret-missing") from error
    if mode & 0o077:
        raise ConfigError(f"the secret {path} can be read by others", code="secret-exposed", hint=f"chmod 600 {path}")
    return text
