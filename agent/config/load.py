"""Everything the agent can be told: one frozen tree of values with defaults that run.

It is read from a TOML file; environment variables override single values: ``VERGE_THING``,
``VERGE_TRANSPORTS__LOCAL__HOST`` (two underscores step into a table, values are TOML where that parses and
fits, and text otherwise).  Secrets are given as files (``password_file``), never read by others.  An unknown
key is refused with the nearest known one.
"""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent.config.artifacts import DownloadOptions
from agent.config.aws import AwsOptions
from agent.config.deployments import DeploymentOptions
from agent.config.environment import overridden
from agent.config.greengrass import GreengrassOptions
from agent.config.models import ModelOptions
from agent.config.plaintext import check_plaintext
from agent.config.secrets import with_files
from agent.config.streams import Limits, StreamOptions, objection
from agent.config.strict import convert, nearest
from agent.config.transports import IotCoreOptions, MqttOptions, TransportOptions
from agent.errors import ConfigError

__all__ = ["Config", "LimitOptions", "StatusOptions", "load", "parse"]

_LIMITS = Limits()


class StatusOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and how often the agent says how it is."""

    transport: str = ""
    """Which broker; empty is the first configured one."""
    prefix: str = "verge/{thing}"
    statistics_interval_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """How often counters are published when nothing else changed."""


class LimitOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a payload may cost before it is looked at."""

    max_bytes: int = _LIMITS.max_bytes
    max_pixels: int = _LIMITS.max_pixels
    max_json_depth: int = _LIMITS.max_json_depth

    def limits(self) -> Limits:
        """As the recogniser takes them."""
        return Limits(self.max_bytes, self.max_pixels, self.max_json_depth)


class _Mqtt(msgspec.Struct, frozen=True):
    transports: dict[str, MqttOptions]


class _IotCore(msgspec.Struct, frozen=True):
    transports: dict[str, IotCoreOptions]


_TRANSPORTS: dict[str, type[msgspec.Struct]] = {MqttOptions.kind: _Mqtt, IotCoreOptions.kind: _IotCore}
"""Type of a transport → the configuration if all were of that type."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration."""

    thing: str = ""
    """This device's name on every topic; empty is the host's name."""
    data_dir: str = ""
    """Where the agent keeps what it writes; empty is ``verge`` in the user's state folder."""
    log_level: str = "info"
    transports: dict[str, TransportOptions]
    models: dict[str, ModelOptions] = {}
    streams: dict[str, StreamOptions] = {}
    deployments: DeploymentOptions | None = None
    """Where deployments come from; without the table there are none."""
    tuning_budget_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 20.0
    """How long a model with ``autotune`` may be measured before its first load on this machine."""
    aws: AwsOptions | None = None
    """The account that the device belongs to; without the table what the AWS SDK finds by itself."""
    greengrass: GreengrassOptions = GreengrassOptions()
    """Whether and how its cloud is asked for components; what is left out comes from ``aws``."""
    artifacts: DownloadOptions = DownloadOptions()
    status: StatusOptions = StatusOptions()
    limits: LimitOptions = LimitOptions()
    folder: Path = Path()
    """Where relative paths start: the folder of the file; not a key of the file."""

    @property
    def first_transport(self) -> str:
        """The transport that is meant where none is named."""
        return next(iter(self.transports))


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file and the environment; raises ``ConfigError`` with the place and a hint."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            code="config-missing",
            hint="name a file with -c; configs/local.toml is a commented start",
        ) from error
    try:
        parsed = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", code="config-unreadable") from error
    return parse(parsed, str(path), path.parent.resolve(), os.environ if environment is None else environment)


def parse(parsed: Mapping[str, Any], name: str, folder: Path, environment: Mapping[str, str]) -> Config:
    """Build the configuration from parsed TOML; ``name`` is the file's, for errors."""
    config = overridden(parsed, name, environment, _checked)
    thing = config.thing or platform.node() or "verge"
    transports = {key: _named(with_files(options, folder), thing) for key, options in config.transports.items()}
    for key, options in transports.items():
        _check_password(key, options)
    aws = _of_device(with_files(config.aws or AwsOptions(), folder), transports)
    greengrass = with_files(config.greengrass, folder)
    return msgspec.structs.replace(
        config,
        thing=thing,
        aws=aws if config.aws else None,
        greengrass=greengrass.filled(aws) if greengrass.enabled else greengrass,
        artifacts=with_files(config.artifacts, folder),
        data_dir=str(folder / _data_dir(config, environment)),
        folder=folder,
        transports=transports,
    )


def _data_dir(config: Config, environment: Mapping[str, str]) -> Path:
    # systemd's StateDirectory= is the service's own; a user's state folder is shared with other programs.
    if not config.data_dir and environment.get("STATE_DIRECTORY"):
        return Path(environment["STATE_DIRECTORY"])
    wanted = Path(config.data_dir or Path(environment.get("XDG_STATE_HOME") or "~/.local/state") / "verge")
    try:
        return wanted.expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"nothing can be kept in {wanted}: there is no such home folder", code="no-home", hint="set data_dir"
        ) from error


def _checked(values: Mapping[str, Any], name: str) -> Config:
    if "folder" in values:
        raise ConfigError(f"unknown key folder in {name}", code="unknown-key")
    config = convert(Config, _typed(values, name), name)
    if not config.transports:
        raise ConfigError(f"{name} names no transport", code="no-transport", hint="add [transports.local]")
    _check_references(config, name)
    return config


def _typed(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The values with the ``type`` of each transport filled in; each is read as what it is, for the error's sake.

    Of a table that fits none of several types nobody can say which of its keys is wrong.
    """
    tables = values.get("transports")
    if not isinstance(tables, Mapping):
        return values
    typed: dict[str, Any] = {}
    for key, table in tables.items():
        typed[key] = table
        if not isinstance(table, Mapping):
            continue
        told = table.get("type", MqttOptions.kind)
        if told not in _TRANSPORTS:
            known = ", ".join(_TRANSPORTS)
            raise ConfigError(
                f"transports.{key}.type in {name}: there is no type {told!r}",
                code="wrong-value",
                hint=nearest(str(told), _TRANSPORTS) or f"known: {known}",
            )
        typed[key] = {**table, "type": told}
        convert(_TRANSPORTS[told], {"transports": {key: typed[key]}}, name)
    return {**values, "transports": typed}


def _check_references(config: Config, name: str) -> None:
    for stream, options in config.streams.items():
        if options.model not in config.models:
            raise _missing("model", options.model, f"streams.{stream}.model", config.models, name)
        wrong = objection(options.input)
        if wrong is not None:
            place = (
                f"streams.{stream}.input.{wrong.key} in {name}:" if wrong.key else f"streams.{stream}.input in {name}"
            )
            raise ConfigError(f"{place} {wrong.said}", code=wrong.code, hint=wrong.hint)
    for place, transport in _transports_named(config):
        if transport and transport not in config.transports:
            raise _missing("transport", transport, place, config.transports, name)


def _transports_named(config: Config) -> list[tuple[str, str]]:
    named = [("status.transport", config.status.transport)]
    if config.deployments is not None:
        named.append(("deployments.transport", config.deployments.transport))
    for stream, options in config.streams.items():
        named.append((f"streams.{stream}.input.transport", options.input.transport))
        named += [(f"streams.{stream}.outputs[{n}].transport", o.transport) for n, o in enumerate(options.outputs)]
        if options.snapshots:
            named.append((f"streams.{stream}.snapshots.transport", options.snapshots.transport))
    return named


def _missing(kind: str, wanted: str, place: str, known: Mapping[str, Any], name: str) -> ConfigError:
    return ConfigError(
        f"{place} in {name}: there is no {kind} {wanted!r}",
        code=f"unknown-{kind}",
        hint=nearest(wanted, known) or f"known: {', '.join(known) or 'none'}",
    )


def _check_password(name: str, options: TransportOptions) -> None:
    if isinstance(options, MqttOptions):
        allowed, has = options.allow_plaintext_password, options.password is not None
        check_plaintext(name, options.host, tls=options.tls is not None, password=has, allowed=allowed)
    elif (proxy := options.proxy) is not None:
        allowed, has = proxy.allow_plaintext_password, proxy.password is not None
        check_plaintext(f"{name}.proxy", proxy.host, tls=None, password=has, allowed=allowed)


def _of_device(aws: AwsOptions, transports: Mapping[str, TransportOptions]) -> AwsOptions:
    """What is left out of the table is the certificate that the device has for IoT Core."""
    cloud = next((each for each in transports.values() if isinstance(each, IotCoreOptions)), None)
    if cloud is None:
        return aws
    return msgspec.structs.replace(
        aws,
        cert_file=aws.cert_file or cloud.cert_file,
        key_file=aws.key_file or cloud.key_file,
        ca_file=aws.ca_file or cloud.ca_file,
    )


_LONGEST_ID = 128


def _named(options: TransportOptions, thing: str) -> TransportOptions:
    """IoT Core knows a client by the name of its thing."""
    if isinstance(options, IotCoreOptions) and not options.client_id:
        if len(thing.encode()) > _LONGEST_ID:
            raise ConfigError(
                f"thing is {len(thing)} characters long, and IoT Core takes {_LONGEST_ID}",
                code="bad-thing",
                hint="give it a shorter name, or the transport a client_id",
            )
        return msgspec.structs.replace(options, client_id=thing)
    return options
