"""What ``aws.greengrass.LogManager`` is configured with.

(AWS IoT Greengrass V2 Developer Guide, "Log manager": ``logsUploaderConfiguration`` and ``periodicUploadIntervalSec``.)
Keys match in any case; numbers and booleans may be texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import InvalidInputError
from agent.greengrass.catalog import scalars

__all__ = ["LEVELS", "LogOptions", "Source", "parse"]

LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR")
"""What ``minimumLogLevel`` can be, the least first."""

_INTERVAL_S: Final = 300.0
_SHORTEST_S: Final = 1.0
_UNITS: Final = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
_NEW_EVENT: Final = r"^\S"
_HINT: Final = "see Log manager in the AWS IoT Greengrass developer guide"


@dataclass(frozen=True, slots=True)
class Source:
    """One component's logs, or those of another program."""

    name: str
    folder: Path
    files: re.Pattern[str]
    """Found in the names of its files."""
    level: str = "INFO"
    """The least that is uploaded."""
    disk_bytes: int | None = None
    delete_uploaded: bool = False
    new_event: re.Pattern[str] = re.compile(_NEW_EVENT)
    """A line that it is not found in goes on with the event before."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Whose logs are uploaded, and how often."""

    sources: tuple[Source, ...] = ()
    interval_s: float = _INTERVAL_S
    system: bool = False
    """Whether those of the nucleus itself are asked for as well."""


def parse(configuration: Mapping[str, Any], logs: Path) -> LogOptions:
    """Read it; ``logs`` is the folder of components' logs.  Raises ``InvalidInputError``."""
    uploader = _table(configuration, "logsUploaderConfiguration")
    interval = _number(configuration, "periodicUploadIntervalSec")
    system = _table(uploader, "systemLogsConfiguration")
    sources = tuple(_source(name, table, logs) for name, table in _components(uploader))
    seconds = _INTERVAL_S if interval is None else max(interval, _SHORTEST_S)
    return LogOptions(sources, seconds, bool(_boolean(system, "uploadToCloudWatch")))


def _components(uploader: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each component's table: by name, or in the list of 2.1 and older, where the map goes before."""
    by_name = dict(_table(uploader, "componentLogsConfigurationMap"))
    older = _get(uploader, "componentLogsConfiguration")
    if isinstance(older, Mapping):
        by_name = {**older, **by_name}
    for entry in older if isinstance(older, list) else ():
        name = _get(entry, "componentName") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name:
            raise _wrong("componentLogsConfiguration", entry, "an object with a componentName")
        by_name.setdefault(name, entry)
    for name, table in by_name.items():
        if not isinstance(table, Mapping):
            raise _wrong(name, table, "an object")
        yield name, table


def _source(name: str, table: Mapping[str, Any], logs: Path) -> Source:
    folder = _text(table, "logFileDirectoryPath")
    files = _pattern(table, "logFileRegex") or re.compile(rf"^{re.escape(name)}(?:_[\d_]+)?\.log(?:\.\d+)?$")
    level = (_text(table, "minimumLogLevel") or "INFO").upper()
    if level not in LEVELS:
        raise _wrong(f"{name}.minimumLogLevel", level, " or ".join(LEVELS))
    limit, unit = _number(table, "diskSpaceLimit"), (_text(table, "diskSpaceLimitUnit") or "KB").upper()
    if unit not in _UNITS:
        raise _wrong(f"{name}.diskSpaceLimitUnit", unit, " or ".join(_UNITS))
    return Source(
        name,
        Path(folder) if folder else logs,
        files,
        level,
        None if limit is None else int(limit * _UNITS[unit]),
        bool(_boolean(table, "deleteLogFileAfterCloudUpload")),
        _pattern(table, "multiLineStartPattern") or re.compile(_NEW_EVENT),
    )


def _get(table: Mapping[str, Any], key: str) -> Any:
    return next((value for spelled, value in table.items() if spelled.lower() == key.lower()), None)


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _get(table, key)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(key, value, "an object")
    return value or {}


def _text(table: Mapping[str, Any], key: str) -> str:
    value = _get(table, key)
    if value is not None and not isinstance(value, str):
        raise _wrong(key, value, "a text")
    return value or ""


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = _get(table, key)
    number = scalars.number(value)
    if value is not None and (number is None or number <= 0):
        raise _wrong(key, value, "a number, more than 0")
    return number


def _boolean(table: Mapping[str, Any], key: str) -> bool | None:
    value = _get(table, key)
    boolean = scalars.boolean(value)
    if value is not None and boolean is None:
        raise _wrong(key, value, "true or false")
    return boolean


def _pattern(table: Mapping[str, Any], key: str) -> re.Pattern[str] | None:
    value = _text(table, key)
    try:
        return re.compile(value) if value else None
    except re.error as error:
        raise _wrong(key, value, f"a regular expression ({error})") from error


def _wrong(key: str, value: Any, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{key} is {value!r}: expected {expected}", hint=_HINT, code="COMPONENT_CONFIGURATION_NOT_VALID"
    )
