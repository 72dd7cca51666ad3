"""What the configuration of ``aws.greengrass.Nucleus`` changes here, and what of it has no effect.

=======================================  ===========================================================================
key                                      changes
=======================================  ===========================================================================
``platformOverride``                     the attributes by which manifests are chosen
``interpolateComponentConfiguration``    whether ``{iot:thingName}`` and the other system variables are filled in in
                                         the configurations of components
``runWithDefault.posixUser``             who scripts run as that name nobody; goes before ``deployments.run_as``
``runWithDefault.posixShell``            what runs them
``runWithDefault.systemResourceLimits``  what components may use that have no limits of their own
``deploymentConfigurationTimeSource``    whether what a deployment merges is as old as its document or as its
                                         processing
``logging.level``                        what the agent logs: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``; without it
                                         ``log_level`` holds
``logging.fileSizeKB``                   how large a component's log file gets before the next begins
``logging.totalLogsSizeKB``              how large all log files of a component get together
``componentStoreMaxSizeBytes``           how large the cache of artifacts gets, where that is less than
                                         ``deployments.cache_bytes``
``fleetStatus``                          ``periodicStatusPublishIntervalSeconds``: how far apart the regular messages
                                         are, a day at least; goes before ``deployments.health_cadence_s``
=======================================  ===========================================================================

Keys match in any case.  The values of the deployment that is being done hold for it already.  Everything else that a
nucleus knows is kept and has no effect; ``notes`` says so of each key, with what to set in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from agent.config.strict import nearest
from agent.greengrass.catalog import parts, scalars
from agent.greengrass.deployments.request import ComponentRequest, Deployment, Requirements, RunWith
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import configuration
from agent.greengrass.recipes.configuration import MISSING, Tree
from agent.greengrass.recipes.versions import Requirement

__all__ = ["NucleusSettings", "kept", "notes", "settings"]

_DEVICE: Final = "the device"
_PROCESSING: Final = "deploymentProcessingTime"
_TIME_SOURCES: Final = ("deploymentCreationTime", _PROCESSING)
_OF_RUN_WITH: Final = ("posixUser", "posixShell", "systemResourceLimits")
_OF_LOGGING: Final = ("level", "fileSizeKB", "totalLogsSizeKB")
_INTERVAL: Final = "periodicStatusPublishIntervalSeconds"
_LEVELS: Final[Mapping[str, str]] = {
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "ERROR": "ERROR",
}
"""A nucleus's levels, and ours."""
_HONOURED: Final = (
    "platformOverride", "interpolateComponentConfiguration", "runWithDefault", "deploymentConfigurationTimeSource",
    "logging", "componentStoreMaxSizeBytes", "fleetStatus",
)  # fmt: skip
_INSTEAD: Final[Mapping[str, str]] = {
    "iotRoleAlias": "set role_alias in the table [aws] of the agent's configuration",
    "awsRegion": "set region in the table [aws] of the agent's configuration",
    "iotDataEndpoint": "set it in the table [transports] of the agent's configuration",
    "iotCredEndpoint": "set it in the table [aws] of the agent's configuration",
    "greengrassDataPlaneEndpoint": "set it in the table [greengrass] of the agent's configuration",
    "greengrassDataPlanePort": "set it in the table [greengrass] of the agent's configuration",
    "networkProxy": "set proxy in the tables [transports] and [artifacts] of the agent's configuration",
    "deploymentPollingFrequencySeconds": "deployments are taken as they arrive",
    "jvmOptions": "there is no Java machine",
    "telemetry": "the agent's status topics tell its numbers",
    "httpClient": "",
    "s3EndpointType": "",
    "fipsMode": "",
    "osResourceLimits": "",
}
"""The other keys of a nucleus, and what to do in place of each."""
_OF_MQTT: Final[Mapping[str, str]] = {
    "port": "port",
    "keepAliveTimeoutMs": "keepalive_s",
    "connectTimeoutMs": "connect_timeout_s",
    "sessionExpiryIntervalSeconds": "session_expiry_s",
    "maxInFlightPublishes": "limits.in_flight",
    "maxMessageSizeInBytes": "limits.payload_bytes",
    "maxPublishRetry": "",
    "pingTimeoutMs": "keepalive_s, of which it is a half",
    "operationTimeoutMs": "",
    "receiveMaximum": "receive_maximum",
    "version": "",
    "spooler": "outbox",
    "spooler.storageType": "outbox, which is on disk",
    "spooler.maxSizeInBytes": "outbox.max_bytes",
    "spooler.keepQos0WhenOffline": "",
}
"""The keys of ``mqtt``, and what of a table ``[transports.X]`` is in their place."""


@dataclass(frozen=True, slots=True)
class NucleusSettings:
    """What the nucleus's configuration comes to; without one it changes nothing."""

    platform: Mapping[str, object] = field(default_factory=dict)
    interpolate: bool = False
    run_with: RunWith = field(default_factory=RunWith)
    """What holds where a component has no override of its own."""
    shell: str = ""
    by_processing_time: bool = False
    log_level: str = ""
    """A level of Python's; empty: the configuration's."""
    log_file_bytes: int | None = None
    log_total_bytes: int | None = None
    store_bytes: int | None = None
    cadence_s: float | None = None

    @classmethod
    def of(cls, tree: Tree) -> Self:
        """Read them.  Raises ``DeploymentError`` for a value that cannot be used."""
        override = _value(tree, "platformOverride")
        if override is not None and not isinstance(override, Mapping):
            raise _wrong("platformOverride", override, "an object of texts")
        interpolate = scalars.boolean(value) if (value := _value(tree, _HONOURED[1])) is not None else False
        if interpolate is None:
            raise _wrong("interpolateComponentConfiguration", value, "true or false")
        source = _value(tree, _HONOURED[3])
        if source not in (None, *_TIME_SOURCES):
            raise _wrong("deploymentConfigurationTimeSource", source, " or ".join(_TIME_SOURCES))
        limits = "runWithDefault/systemResourceLimits"
        memory, cpus = _number(tree, f"{limits}/memory"), _number(tree, f"{limits}/cpus")
        run_with = RunWith(
            posix_user=_text(tree, "runWithDefault/posixUser") or None,
            memory_kb=None if memory is None else int(memory),
            cpus=cpus,
        )
        level = _text(tree, "logging/level").upper()
        if level and level not in _LEVELS:
            raise _wrong("logging.level", level, " or ".join(_LEVELS))
        return cls(
            override or {},
            interpolate,
            run_with,
            _text(tree, "runWithDefault/posixShell"),
            source == _PROCESSING,
            _LEVELS.get(level, ""),
            _bytes(tree, "logging/fileSizeKB", 1024),
            _bytes(tree, "logging/totalLogsSizeKB", 1024),
            _bytes(tree, "componentStoreMaxSizeBytes", 1),
            _number(tree, f"fleetStatus/{_INTERVAL}"),
        )


def settings(configs: Mapping[str, Tree], deployment: Deployment) -> NucleusSettings:
    """The settings that hold for a deployment over the stored configurations.  Raises as ``NucleusSettings.of``."""
    request = deployment.components.get(parts.NUCLEUS, ComponentRequest(None))
    stored = configs.get(parts.NUCLEUS)
    tree = configuration.update(stored, request.reset, {}, request.merge, deployment.timestamp_ms)
    return NucleusSettings.of(tree)


def kept(requirements: Requirements, configs: Mapping[str, Tree], deployment: Deployment) -> Requirements:
    """The requirements, with the nucleus where it is configured: it is the device's, and leaves with no group."""
    stored = configs.get(parts.NUCLEUS)
    if parts.NUCLEUS not in deployment.components and (stored is None or not stored.nodes):
        return requirements
    return {**requirements, parts.NUCLEUS: {**requirements.get(parts.NUCLEUS, {}), _DEVICE: Requirement.parse("*")}}


def notes(deployment: Deployment) -> tuple[str, ...]:
    """What of a deployment's configuration of the agent's own parts has no effect, a sentence a key."""
    return tuple(
        note
        for name in sorted(parts.NAMES & deployment.components.keys())
        for note in _notes(name, deployment.components[name].merge or {})
    )


def _notes(name: str, merge: Mapping[str, Any]) -> Iterator[str]:
    known = {key.lower(): key for key in (*_HONOURED, *_INSTEAD, "mqtt")} if name == parts.NUCLEUS else {}
    for spelled, value in merge.items():
        key = known.get(spelled.lower())
        if key in _HONOURED:
            yield from _notes_within(name, key or "", value)
        elif key == "mqtt":
            yield from _mqtt_notes(name, value)
        elif key is None and known:
            guess = nearest(spelled, known.values())
            yield f"{name} has no key {spelled}: it is kept and ignored" + (f" ({guess})" if guess else "")
        else:
            instead = _INSTEAD.get(key or "")
            yield f"{name}: {spelled} is kept and has no effect in this agent" + (f"; {instead}" if instead else "")


def _notes_within(name: str, key: str, value: Any) -> Iterator[str]:
    known = {"runWithDefault": _OF_RUN_WITH, "logging": _OF_LOGGING, "fleetStatus": (_INTERVAL,)}.get(key)
    lower = {one.lower() for one in known or ()}
    for inner in value if known and isinstance(value, Mapping) else ():
        if inner.lower() not in lower:
            yield f"{name}: {key}.{inner} is kept and has no effect in this agent"


def _mqtt_notes(name: str, value: Any) -> Iterator[str]:
    ours = {key.lower(): option for key, option in _OF_MQTT.items()}
    for key in _leaves(value) if isinstance(value, Mapping) else ():
        option = ours.get(key.lower())
        instead = f"; set {option} in the table [transports.X] of the agent's configuration" if option else ""
        yield f"{name}: mqtt.{key} is kept and has no effect in this agent{instead}"


def _leaves(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        yield from (f"{key}.{one}" for one in _leaves(inner)) if isinstance(inner, Mapping) and inner else (key,)


def _value(tree: Tree, place: str) -> Any:
    value = tree.at(place.split("/"))
    return None if value is MISSING else value


def _text(tree: Tree, place: str) -> str:
    value = _value(tree, place)
    if value is not None and not isinstance(value, str):
        raise _wrong(place, value, "a text")
    return value or ""


def _number(tree: Tree, place: str) -> float | None:
    value = _value(tree, place)
    number = scalars.number(value)
    if value is not None and (number is None or number <= 0):
        raise _wrong(place, value, "a number, more than 0")
    return number


def _bytes(tree: Tree, place: str, unit: int) -> int | None:
    number = _number(tree, place)
    return None if number is None else int(number * unit)


def _wrong(place: str, value: Any, expected: str) -> DeploymentError:
    key = place.replace("/", ".")
    return DeploymentError(
        f"{parts.NUCLEUS}: {key} is {value!r}: expected {expected}",
        code="COMPONENT_CONFIGURATION_NOT_VALID",
        path=key,
    )
