"""Everything a person can set: one frozen tree of values with defaults that run.

It is read from a TOML file; environment variables override single values: ``VERGE_THING``,
``VERGE_TRANSPORTS__LOCAL__HOST`` (two underscores step into a table, values are TOML where that parses and
fits, and text otherwise).  Secrets are given as files (``password_file``), never read by others.  An unknown
key is refused with the nearest known one.
"""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args

from msgspec import Meta, Struct
from msgspec.structs import replace

from agent.config import streams
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.bounds import Name, OptionalPath, Text
from agent.config.deployments import DeploymentOptions, StoreOptions
from agent.config.edgeapi import EdgeManagerOptions, LookoutOptions, ServingOptions
from agent.config.environment import overlaid
from agent.config.ipc import IpcOptions
from agent.config.models import ModelOptions
from agent.config.secrets import with_files
from agent.config.streams import FrameLimits, StreamOptions, check_template
from agent.config.strict import Origin, convert_all, nearest, wrong
from agent.config.transports import MqttOptions, TransportOptions
from agent.config.vault import SecretOptions
from agent.errors import ConfigError
from agent.topics import RESPONSE_TOPICS, level, valid_filter

__all__ = [
    "LOG_LEVELS",
    "OWNER",
    "Config",
    "Reading",
    "StatusOptions",
    "data_folders",
    "load",
    "owner",
    "parse",
    "read",
]

Options = TypeVar("Options", bound=Struct)

_SERVICE_FOLDER: Final = Path("/var/lib/verge")
"""Where the systemd unit (``configs/verge.service``) keeps the agent's data."""
OWNER: Final = "thing"
"""The file in a data folder that says whose it is."""
_OF_AN_AGENT: Final = ("deployments/*.db", "outbox/*.db", "tuning/*.json", "quarantine/*.*")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_TYPES: Final = tuple(options.kind for options in get_args(TransportOptions))


class StatusOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and how often the agent reports its state."""

    transport: Name = ""
    """Which broker; empty is the first configured one."""
    prefix: Text = "verge/{thing}"
    statistics_interval_s: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    """How often counters are published when nothing else changed."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration."""

    thing: Name = ""
    """This device's name on every topic; empty is the host's name."""
    data_dir: OptionalPath = ""
    """Where the agent keeps what it writes; empty is ``verge/<thing>`` in the user's state folder."""
    log_level: Name = "info"
    transports: dict[str, TransportOptions] = {}
    models: dict[str, ModelOptions] = {}
    streams: dict[str, StreamOptions] = {}
    deployments: DeploymentOptions | None = None
    """Where deployments come from; without the table there are none."""
    tuning_budget_s: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    """How long a model with ``autotune`` may be measured before its first load on this machine."""
    aws: AwsOptions | None = None
    """The account that the device belongs to; without the table what the AWS SDK finds by itself."""
    greengrass: GreengrassOptions = GreengrassOptions()
    """Whether and how its cloud is asked for components; what is left out comes from ``aws``."""
    artifacts: StoreOptions = StoreOptions()
    ipc: IpcOptions = IpcOptions()
    secrets: SecretOptions = SecretOptions()
    edge_manager: EdgeManagerOptions | None = None
    """SageMaker Edge Manager's interface; without the table there is none."""
    lookout: LookoutOptions | None = None
    """Lookout for Vision's; the same."""
    serving: ServingOptions | None = None
    """The Open Inference Protocol; the same."""
    status: StatusOptions = StatusOptions()
    response_topics: tuple[Text, ...] = RESPONSE_TOPICS
    """Filters of the topics on which requests may want their answers; never those with a meaning of their own."""
    limits: FrameLimits = FrameLimits()
    folder: Path = Path()
    """Where relative paths start: the folder of the file; not a key of the file."""

    @property
    def first_transport(self) -> str:
        """The transport that is meant where none is named; empty where there is none."""
        return next(iter(self.transports), "")


class Reading(NamedTuple):
    """A configuration as far as it can be used, None where nothing of it can, and all that is wrong with it."""

    config: Config | None
    errors: tuple[ConfigError, ...]


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file and the environment; raises the first ``ConfigError``, with the place and a hint."""
    return _usable(read(path, environment))


def parse(parsed: Mapping[str, Any], name: str, folder: Path, environment: Mapping[str, str]) -> Config:
    """Build the configuration from parsed TOML; ``name`` is the file's, for errors.  Raises as ``load``."""
    return _usable(_read(parsed, name, folder, environment))


def read(path: Path, environment: Mapping[str, str] | None = None) -> Reading:
    """Read the file and the environment, and go on behind each mistake.

    Raises ``ConfigError`` for a file that cannot be read or is not TOML.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            code="config-missing",
            hint="name a file with -c; configs/local.toml is a commented start",
        ) from error
    try:
        parsed = tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", code="config-unreadable") from error
    return _read(parsed, str(path), path.parent.resolve(), os.environ if environment is None else environment)


def _usable(reading: Reading) -> Config:
    if reading.errors:
        raise reading.errors[0]
    assert reading.config is not None  # noqa: S101 where nothing can be used there is an error
    return reading.config


def _read(parsed: Mapping[str, Any], name: str, folder: Path, environment: Mapping[str, str]) -> Reading:
    overlay = overlaid(parsed, name, environment, lambda values, origin: _converted(values, origin).errors)
    reading = _converted(overlay.values, overlay.origin)
    if reading.config is None:
        return reading
    errors = list(reading.errors)
    return Reading(_completed(reading.config, folder, environment, errors), tuple(errors))


# -- the values ------------------------------------------------------------------------------------------------------


def _converted(values: Mapping[str, Any], origin: Origin) -> Reading:
    errors = [*_unreadable_tables(values, origin)]
    config, misfits = convert_all(Config, _readable(values), origin)
    errors += misfits
    if config is None:
        return Reading(None, tuple(errors))
    if not config.transports and not errors:
        name = origin if isinstance(origin, str) else origin("transports")
        hint = "add [transports.local]"
        errors.append(ConfigError(f"{name} names no transport", code="no-transport", hint=hint, path="transports"))
    misused = [*_misused(config, values, origin)]
    if any(error.path == "status.prefix" for error in misused):
        config = replace(config, status=replace(config.status, prefix=StatusOptions().prefix))
    return Reading(config, (*errors, *misused))


def _unreadable_tables(values: Mapping[str, Any], origin: Origin) -> Iterator[ConfigError]:
    if "folder" in values:
        name = origin if isinstance(origin, str) else origin("folder")
        yield ConfigError(f"unknown key folder in {name}", code="unknown-key", path="folder")
    for key, table in _tables(values, "transports").items():
        kind = table.get("type", MqttOptions.kind) if isinstance(table, Mapping) else MqttOptions.kind
        if kind not in _TYPES:
            hint = nearest(str(kind), _TYPES) or f"known: {', '.join(_TYPES)}"
            yield wrong(f"transports.{key}.type", f"there is no type {kind!r}", origin, hint=hint)


def _readable(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values without what ``_unreadable_tables`` reports, each transport with its ``type``."""
    readable = {key: value for key, value in values.items() if key != "folder"}
    if isinstance(values.get("transports"), Mapping):
        typed = {
            key: {"type": MqttOptions.kind, **table} if isinstance(table, Mapping) else table
            for key, table in values["transports"].items()
        }
        readable["transports"] = {
            key: table for key, table in typed.items() if not isinstance(table, Mapping) or table["type"] in _TYPES
        }
    return readable


def _tables(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    tables = values.get(key)
    return tables if isinstance(tables, Mapping) else {}


def _misused(config: Config, values: Mapping[str, Any], origin: Origin) -> Iterator[ConfigError]:
    """What the types of the values cannot say: names that nothing has, topics that are none."""
    if config.log_level not in LOG_LEVELS:
        hint = nearest(config.log_level, LOG_LEVELS) or f"known: {', '.join(LOG_LEVELS)}"
        unknown = f"there is no log level {config.log_level!r}"
        yield wrong("log_level", unknown, origin, code=ConfigError.default_code, hint=hint)
    try:
        check_template(config.status.prefix, fields=("thing",))
    except ConfigError as error:
        yield wrong("status.prefix", error.message, origin, code=error.code, hint=error.hint)
    for number, topic_filter in enumerate(config.response_topics):
        if not valid_filter(topic_filter):
            hint = "a filter is e.g. site/answers/#"
            yield wrong(f"response_topics[{number}]", f"{topic_filter!r} is no topic filter", origin, hint=hint)
    yield from _misused_streams(config, values, origin)
    for problem in config.serving.problems() if config.serving else ():
        yield wrong(f"serving.{problem.path}", problem.message, origin, code=problem.code, hint=problem.hint)
    transports = _tables(values, "transports")
    for path, transport in _transports_named(config):
        if transport not in {"", *transports}:
            yield _missing("transport", transport, path, config.transports, origin)


def _misused_streams(config: Config, values: Mapping[str, Any], origin: Origin) -> Iterator[ConfigError]:
    for stream, options in config.streams.items():
        if options.model not in _tables(values, "models"):
            yield _missing("model", options.model, f"streams.{stream}.model", config.models, origin)
        for problem in streams.problems(options):
            path = f"streams.{stream}.{problem.path}"
            yield wrong(path, problem.message, origin, code=problem.code, hint=problem.hint)


def _transports_named(config: Config) -> Iterator[tuple[str, str]]:
    yield "status.transport", config.status.transport
    if config.deployments is not None:
        yield "deployments.transport", config.deployments.transport
    if config.serving is not None:
        yield "serving.transport", config.serving.transport
    for stream, options in config.streams.items():
        yield f"streams.{stream}.input.transport", options.input.transport
        for number, output in enumerate(options.outputs):
            yield f"streams.{stream}.outputs[{number}].transport", output.transport
        if options.snapshots:
            yield f"streams.{stream}.snapshots.transport", options.snapshots.transport


def _missing(kind: str, name: str, path: str, known: Mapping[str, Any], origin: Origin) -> ConfigError:
    hint = nearest(name, known) or f"known: {', '.join(known) or 'none'}"
    return wrong(path, f"there is no {kind} {name!r}", origin, code=f"unknown-{kind}", hint=hint)


# -- what is left out, and files -------------------------------------------------------------------------------------


def _completed(config: Config, folder: Path, environment: Mapping[str, str], errors: list[ConfigError]) -> Config:
    """The configuration with what is left out filled in, paths absolute and secrets read; adds to ``errors``."""

    def files(options: Options, path: str) -> Options:
        made, wrong_files = with_files(options, folder, path)
        errors.extend(wrong_files)
        return made

    thing = config.thing or platform.node() or "verge"
    transports: dict[str, TransportOptions] = {}
    for key, options in config.transports.items():
        made = files(options, f"transports.{key}")
        try:
            made.check_passwords(key)
            transports[key] = made.named(thing)
        except ConfigError as error:
            errors.append(error)
            transports[key] = made
    aws = _of_device(files(config.aws or AwsOptions(), "aws"), transports)
    greengrass, data_dir = files(config.greengrass, "greengrass"), config.data_dir
    try:
        greengrass = greengrass.filled(aws) if greengrass.enabled else greengrass
    except ConfigError as error:
        errors.append(error)
    try:
        data_dir = str(folder / _data_dir(data_dir, thing, environment))
    except ConfigError as error:
        errors.append(error)
    return replace(
        config,
        thing=thing,
        aws=aws if config.aws else None,
        greengrass=greengrass,
        artifacts=files(config.artifacts, "artifacts"),
        serving=files(config.serving, "serving") if config.serving else None,
        data_dir=data_dir,
        folder=folder,
        transports=transports,
    )


def data_folders(config: Config | None = None, environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where an agent's data may be on this machine, the likeliest first: for commands that read it.

    A configuration says it; without one it is the folder of an agent of this user, or that of the service.
    """
    if config is not None:
        return (Path(config.data_dir),)
    environment = os.environ if environment is None else environment
    thing = environment.get("VERGE_THING") or platform.node() or "verge"
    own = Path.cwd() / _data_dir(environment.get("VERGE_DATA_DIR", ""), thing, environment)
    base = Path(os.path.expanduser(_default_base(environment)))  # noqa: PTH111 which raises nothing
    others = [folder for folder in (base, *sorted(base.glob("*"))) if _has_data(folder)]
    return (own, *(folder for folder in others if folder != own), _SERVICE_FOLDER)


def _data_dir(data_dir: str, thing: str, environment: Mapping[str, str]) -> Path:
    # systemd's StateDirectory= is the service's own; a user's state folder is shared with other programs.
    if not data_dir and environment.get("STATE_DIRECTORY"):
        return Path(environment["STATE_DIRECTORY"])
    folder = Path(data_dir) if data_dir else _default_base(environment)
    try:
        folder = folder.expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"nothing can be kept in {folder}: there is no such home folder",
            code="no-home",
            hint="set data_dir",
            path="data_dir",
        ) from error
    if data_dir:
        return folder
    # Earlier versions kept everything right here, whichever thing it was; the first to find it keeps it.
    kept = _has_data(folder) and owner(folder) in {"", thing}
    return folder if kept else folder / (level(thing).lstrip(".") or "_")


def _default_base(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_STATE_HOME") or "~/.local/state") / "verge"


def _has_data(folder: Path) -> bool:
    """Whether an agent's data is right in the folder."""
    return any(any(folder.glob(pattern)) for pattern in _OF_AN_AGENT)


def owner(folder: Path) -> str:
    """The thing whose data is in a folder; empty where that was not written down."""
    try:
        return (folder / OWNER).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _of_device(aws: AwsOptions, transports: Mapping[str, TransportOptions]) -> AwsOptions:
    """What is left out of the table is the certificate that the device has for IoT Core."""
    files = next((files for options in transports.values() if (files := options.aws_files) is not None), None)
    if files is None:
        return aws
    return replace(
        aws,
        cert_file=aws.cert_file or files.cert_file,
        key_file=aws.key_file or files.key_file,
        ca_file=aws.ca_file or files.ca_file,
    )
