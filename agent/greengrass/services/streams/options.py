"""The configuration of the component ``aws.greengrass.StreamManager``, checked.

Numbers and booleans are taken as JSON's or as text: consoles write either.  What tunes AWS's Java process
(``JVM_ARGS``, its log level and threads) has nothing to act on here and is named in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import InvalidInputError
from agent.greengrass.errors import DeploymentError

__all__ = ["IGNORED", "Options", "options_of"]

IGNORED: Final = (
    "JVM_ARGS",
    "LOG_LEVEL",
    "STREAM_MANAGER_EXPORTER_MAX_BANDWIDTH",
    "STREAM_MANAGER_EXPORTER_THREAD_POOL_SIZE",
    "STREAM_MANAGER_SERVER_MAX_BANDWIDTH",
)
"""Members that have no effect here."""
_PART_BYTES: Final = 5 * 1024 * 1024
_PORT: Final = 8088


@dataclass(frozen=True, slots=True)
class Options:
    """``port`` 0 is any free one; ``folder`` empty is the component's own; ``part_bytes`` of an upload to S3."""

    port: int = _PORT
    folder: str = ""
    authenticate: bool = True
    part_bytes: int = _PART_BYTES


def options_of(configuration: Mapping[str, Any]) -> Options:
    """The options in a configuration.

    Raises:
        DeploymentError: COMPONENT_CONFIGURATION_NOT_VALID, with the member's path.
    """
    folder = configuration.get("STREAM_MANAGER_STORE_ROOT_DIR", "") or ""
    if not isinstance(folder, str) or (folder not in {"", "."} and not folder.startswith("/")):
        raise _invalid("STREAM_MANAGER_STORE_ROOT_DIR", folder, "give the absolute path of a folder")
    return Options(
        port=_number(configuration, "STREAM_MANAGER_SERVER_PORT", _PORT, 0, 65535),
        folder="" if folder == "." else folder,
        authenticate=_flag(configuration, "STREAM_MANAGER_AUTHENTICATE_CLIENT"),
        part_bytes=_number(
            configuration,
            "STREAM_MANAGER_EXPORTER_S3_DESTINATION_MULTIPART_UPLOAD_MIN_PART_SIZE_BYTES",
            _PART_BYTES,
            _PART_BYTES,
            5 * 1024**3,
        ),
    )


def _number(configuration: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = configuration.get(key)
    if value is None or value == "":
        return default
    text = str(value)
    whole = not isinstance(value, bool) and ((text.isascii() and text.isdecimal()) or text.endswith(".0"))
    if not whole or not low <= int(float(text)) <= high:
        raise _invalid(key, value, f"give a whole number from {low} to {high}")
    return int(float(text))


def _flag(configuration: Mapping[str, Any], key: str) -> bool:
    value = configuration.get(key)
    if value is None or value == "":
        return True
    text = str(value).lower()
    if text not in {"true", "false"}:
        raise _invalid(key, value, "give true or false")
    return text == "true"


def _invalid(key: str, value: object, hint: str) -> InvalidInputError:
    return DeploymentError(
        f"{key} of the stream manager cannot be {value!r}",
        hint=hint,
        code="COMPONENT_CONFIGURATION_NOT_VALID",
        path=key,
    )
