"""A transport from its options: a table of types, of which only those are loaded that are configured."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from agent.config.transports import TransportOptions
from agent.errors import ConfigError
from agent.mqtt.client import BrokerTransport
from agent.mqtt.kept import KeptFilters
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message, Transport

__all__ = ["create"]


class _Type(NamedTuple):
    """Where the class of a transport is, and what installs the package that it needs."""

    module: str
    name: str
    package: str
    install: str


TYPES: Final[Mapping[str, _Type]] = {
    "mqtt": _Type("agent.mqtt.client", "MqttTransport", "paho-mqtt", "pip install verge-edge"),
    "iotcore": _Type("agent.mqtt.iotcore.client", "IotCoreTransport", "awscrt", "pip install 'verge-edge[aws]'"),
    "greengrass": _Type("agent.mqtt.greengrass.client", "GreengrassTransport", "msgspec", "pip install verge-edge"),
}
"""``type`` of ``[transports.X]`` → the class that takes its options."""


class _TransportClass(Protocol):
    def __call__(self, name: str, options: TransportOptions, *, will: Message | None = None) -> Transport: ...


def create(
    name: str, options: TransportOptions, *, will: Message | None = None, folder: Path | None = None
) -> Transport:
    """A transport called ``name``; ``will`` is what others read when it is gone without a goodbye.

    ``folder`` is where the outbox is, if there is to be one.  Raises ``ConfigError`` when the options cannot be used,
    or need what is not installed.
    """
    transport = _class(name, options.kind)(name, options, will=will)
    if folder is not None and isinstance(transport, BrokerTransport):
        transport.inherit(KeptFilters(folder / "sessions" / f"{name}.json", options.address))
    outbox = options.outbox_used
    if outbox is None:
        return transport
    path = (folder or Path()) / (outbox.path or f"outbox/{name}.db")
    return Outbox(transport, outbox, path, max_payload_bytes=options.max_queued_bytes)


def _class(name: str, kind: str) -> _TransportClass:
    # Imported here: an agent without IoT Core does not carry what it needs.
    module, class_name, package, install = TYPES[kind]
    try:
        transport_class: _TransportClass = getattr(importlib.import_module(module), class_name)
    except ImportError as error:
        raise ConfigError(
            f"transport {name} needs {package}, which is not installed ({error})", code="not-installed", hint=install
        ) from error
    return transport_class
