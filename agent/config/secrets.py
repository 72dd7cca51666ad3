"""The files that a configuration names: paths made absolute, secrets read, and none that others can read.

A password is not sent over a link that anybody on the way can read, unless the owner names the exception.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from agent.config.bounds import PathText, Text, Timeout
from agent.errors import ConfigError
from agent.files import under

__all__ = ["HttpOptions", "TlsFiles", "check_plaintext", "loopback", "missing_files", "secrets_of", "with_files"]

Options = TypeVar("Options", bound=Struct)

_SECRETS = ("password_file", "pin_file", "token_file")
_LONGEST = 16_383


class TlsFiles(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom to trust, and who the agent is."""

    ca_file: PathText | None = None
    """PEM of the authorities to trust; without it the system's."""
    cert_file: PathText | None = None
    """PEM of the agent's certificate, chain included."""
    key_file: PathText | None = None


class HttpOptions(TlsFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How servers are spoken with over HTTPS."""

    proxy: Text | None = None
    """``http://user:password@host:port``; without it ``https_proxy``, ``http_proxy`` and ``no_proxy`` of the
    environment hold."""
    connect_timeout_s: Timeout = 10.0
    read_timeout_s: Timeout = 30.0
    """For each read, not for the whole."""


def with_files(options: Options, folder: Path, path: str) -> tuple[Options, tuple[ConfigError, ...]]:
    """Paths made absolute and secrets read from their files, in the table at ``path`` and those within.

    Beside it what is wrong with secrets and keys, each with its path.
    """
    changes: dict[str, Any] = {}
    errors: list[ConfigError] = []
    for key in options.__struct_fields__:
        value, place = getattr(options, key), f"{path}.{key}"
        if isinstance(value, Struct):
            changes[key], inner = with_files(value, folder, place)
            errors += inner
        elif value and key in _SECRETS:
            try:
                changes[key.removesuffix("_file")] = _secret(under(folder, value), place)
            except ConfigError as error:
                errors.append(error)
        elif value and key in TlsFiles.__struct_fields__:
            changes[key] = str(under(folder, value))
            if key == "key_file" and (exposed := _exposed_key(Path(changes[key]), place)):
                errors.append(exposed)
    return replace(options, **changes), tuple(errors)


def missing_files(options: Struct, path: str) -> Iterator[ConfigError]:
    """What of the certificates and keys that the table at ``path`` names cannot be read; paths are absolute."""
    for key in options.__struct_fields__:
        value, place = getattr(options, key), f"{path}.{key}"
        if isinstance(value, Struct):
            yield from missing_files(value, place)
        elif value and key in TlsFiles.__struct_fields__:
            try:
                Path(value).open("rb").close()
            except OSError as error:
                yield ConfigError(
                    f"{place}: {value} cannot be read: {error.strerror}",
                    hint="check the path, and who may read it",
                    path=place,
                )


def secrets_of(options: Struct) -> Iterator[tuple[str, str | None]]:
    """The secrets in a table and those within: the key, and the file, or None where it stands in the configuration."""
    for key in options.__struct_fields__:
        value = getattr(options, key)
        if isinstance(value, Struct):
            yield from secrets_of(value)
        elif value and key in _SECRETS:
            yield key.removesuffix("_file"), value
        elif value and f"{key}_file" in _SECRETS and not getattr(options, f"{key}_file"):
            yield key, None


def loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine.

    >>> loopback("localhost"), loopback("127.0.0.53"), loopback("::1"), loopback("broker.local")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "ip6-localhost"}
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_plaintext(name: str, host: str, *, tls: bool | None, password: bool, allowed: bool) -> None:
    """Raise ``ConfigError`` where ``transports.<name>`` would send a password in the clear and may not.

    ``tls`` is None where there is none to be had.
    """
    if not password or tls or allowed or loopback(host):
        return
    exception = "name the exception: allow_plaintext_password = true"
    raise ConfigError(
        f"transports.{name} would send its password to {host} in the clear",
        code="plaintext-password",
        hint=exception if tls is None else f"add transports.{name}.tls, or {exception}",
        path=f"transports.{name}",
    )


def _exposed_key(path: Path, place: str) -> ConfigError | None:
    """The error of a private key that everybody can read; a group of services may share one."""
    if not path.exists() or not path.stat().st_mode & 0o007:
        return None
    return ConfigError(
        f"the key {path} can be read by others", code="secret-exposed", hint=f"chmod o= {path}", path=place
    )


def _secret(path: Path, place: str) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"the secret {path} cannot be read: {reason}",
            code="secret-missing",
            hint=f"check {place}, and that the agent's user may read the file",
            path=place,
        ) from error
    if mode & 0o077:
        hint = f"chmod 600 {path}"
        raise ConfigError(f"the secret {path} can be read by others", code="secret-exposed", hint=hint, path=place)
    if len(text) > _LONGEST:
        hint = "is it the right file?"
        raise ConfigError(f"the secret {path} is longer than MQTT allows", hint=hint, path=place)
    return text
