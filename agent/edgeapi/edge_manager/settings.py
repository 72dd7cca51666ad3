"""The configuration of the agent that this interface was AWS's: its JSON file, and its component's parameters.

Numbers may be texts, and an empty text is what nobody says.  What begins as the known keys do and is not known is
ignored: newer and older agents had more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.config.aws import AwsOptions
from agent.config.edgeapi import EdgeManagerOptions
from agent.config.strict import convert
from agent.errors import ConfigError

__all__ = ["JSON_KEYS", "Settings", "of_component", "of_json"]

_PREFIX: Final = "sagemaker_edge_"
_ROLE: Final = re.compile(r"(?:https://)?([A-Za-z0-9.:-]+)(?:/role-aliases/([^/]+)/credentials/?)?")


@dataclass(frozen=True, slots=True)
class Settings:
    """What such a configuration says."""

    options: EdgeManagerOptions
    aws: AwsOptions
    thing: str = ""
    data_root: str = ""
    """Where the agent's own files are to be."""
    verbose: bool = False


def of_json(text: bytes, name: str) -> Settings:
    """Read the JSON file called ``name``; raises ``ConfigError``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON: {error}", code="config-unreadable") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{name} is no JSON object", code="config-unreadable")
    said = _read({key.removeprefix(_PREFIX): value for key, value in found.items()}, _JSON, name, _PREFIX)
    aws = {key.removeprefix("aws."): value for key, value in said.items() if key.startswith("aws.")}
    cloud = said.get("capture.destination") == "cloud" or said.get("capture.periodic_upload", False)
    if cloud and said.get("provider", "aws").lower() != "aws":
        raise ConfigError(
            f"the provider {said['provider']!r} cannot be had",
            code="config-wrong", hint="take Aws, or capture to Disk", path=f"{_PREFIX}provider_provider",
        )  # fmt: skip
    if endpoint := aws.pop("endpoint", ""):
        aws |= _role(endpoint)
    return Settings(
        _options(said, name, _spelled(_JSON, _PREFIX)),
        convert(AwsOptions, aws, name, _spelled(_JSON, _PREFIX)),
        said.get("thing") or said.get("device", ""),
        said.get("data_root", ""),
        said.get("verbose", False),
    )


def of_component(parameters: Mapping[str, Any]) -> Settings:
    """Read the parameters of the component; raises ``ConfigError``."""
    name = "the component's configuration"
    said = _read(parameters, _PARAMETERS, name)
    options = _options(said, name, _spelled(_PARAMETERS))
    return Settings(options, AwsOptions(), data_root=said.get("data_root", ""), verbose=said.get("verbose", False))


# -- keys --------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


_Read = Callable[[Any], Any]

_JSON: Final[Mapping[str, tuple[str, _Read]]] = {
    "core_device_uuid": ("device", _text),
    "core_device_name": ("device", _text),
    "core_iot_thing_name": ("thing", _text),
    "core_device_fleet_name": ("fleet", _text),
    "core_region": ("aws.region", _text),
    "core_capture_data_destination": ("capture.destination", _lower),
    "core_capture_data_disk_path": ("capture.folder", _text),
    "core_folder_prefix": ("capture.prefix", _text),
    "core_capture_data_buffer_size": ("capture.buffer_size", _number),
    "core_capture_data_batch_size": ("capture.batch_size", _number),
    "core_capture_data_push_period_seconds": ("capture.push_period_s", _number),
    "core_capture_data_base64_embed_limit": ("capture.embed_limit", _number),
    "core_capture_data_periodic_upload": ("capture.periodic_upload", _flag),
    "core_capture_data_periodic_upload_period_seconds": ("capture.upload_period_s", _number),
    "provider_provider": ("provider", _text),
    "provider_s3_bucket_name": ("capture.bucket", _text),
    "provider_aws_ca_cert_file": ("aws.ca_file", _text),
    "provider_aws_cert_file": ("aws.cert_file", _text),
    "provider_aws_cert_pk_file": ("aws.key_file", _text),
    "provider_aws_iot_cred_endpoint": ("aws.endpoint", _text),
    "log_verbose": ("verbose", _flag),
    "local_data_root_path": ("data_root", _text),
}
"""Key without its beginning → what it is here; a later one goes before an earlier one of the same."""
JSON_KEYS: Final = frozenset(_PREFIX + key for key in _JSON)
"""What is read of the JSON file."""
_PARAMETERS: Final[Mapping[str, tuple[str, _Read]]] = {
    "DeviceFleetName": ("fleet", _text),
    "BucketName": ("capture.bucket", _text),
    "CaptureDataBatchSize": ("capture.batch_size", _number),
    "CaptureDataBufferSize": ("capture.buffer_size", _number),
    "CaptureDataDestination": ("capture.destination", _lower),
    "CaptureDataPeriodicUpload": ("capture.periodic_upload", _flag),
    "CaptureDataPeriodicUploadPeriodSeconds": ("capture.upload_period_s", _number),
    "CaptureDataPushPeriodSeconds": ("capture.push_period_s", _number),
    "CaptureDataBase64EmbedLimit": ("capture.embed_limit", _number),
    "CaptureDataDiskPath": ("capture.folder", _text),
    "FolderPrefix": ("capture.prefix", _text),
    "LocalDataRootPath": ("data_root", _text),
    "SagemakerEdgeLogVerbose": ("verbose", _flag),
    "UnixSocketName": ("socket", _text),
}
_PLAIN: Final = {"thing": str, "data_root": str, "verbose": bool, "provider": str, "aws.endpoint": str}
"""What is no option, and its type."""


def _read(
    given: Mapping[str, Any], keys: Mapping[str, tuple[str, _Read]], name: str, prefix: str = ""
) -> dict[str, Any]:
    """What is said, by what it is here."""
    said: dict[str, Any] = {}
    for key, (meaning, read) in keys.items():
        value = given.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        said[meaning] = read(value)
        kind = _PLAIN.get(meaning)
        if kind is not None and not isinstance(said[meaning], kind):
            raise ConfigError(f"{name}: {prefix}{key} is {value!r}", code="config-wrong", path=f"{prefix}{key}")
    return said


def _options(said: Mapping[str, Any], name: str, spell: Callable[[str], str]) -> EdgeManagerOptions:
    top = {key: value for key, value in said.items() if key in {"device", "fleet", "socket"}}
    capture = {key.removeprefix("capture."): value for key, value in said.items() if key.startswith("capture.")}
    return convert(EdgeManagerOptions, {**top, "capture": capture}, name, spell)


def _spelled(keys: Mapping[str, tuple[str, _Read]], prefix: str = "") -> Callable[[str], str]:
    names = {meaning.rpartition(".")[2]: prefix + key for key, (meaning, _) in keys.items()}
    return lambda key: names.get(key.rpartition(".")[2], key)


def _role(endpoint: str) -> dict[str, str]:
    """The host and the role alias of ``https://host/role-aliases/alias/credentials``."""
    found = _ROLE.fullmatch(endpoint)
    if found is None or not found[2]:
        raise ConfigError(
            f"{endpoint!r} names no role alias", code="config-wrong",
            hint="give https://HOST/role-aliases/ALIAS/credentials",
            path=f"{_PREFIX}provider_aws_iot_cred_endpoint",
        )  # fmt: skip
    return {"credentials_endpoint": found[1], "role_alias": found[2]}
