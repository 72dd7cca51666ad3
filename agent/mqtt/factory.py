"""A transport for what the configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec.structs import replace

from agent.config.transports import IotCoreOptions, MemoryOptions, OutboxOptions, TransportOptions
from agent.errors import ConfigError, PublishError
from agent.mqtt.client import MqttTransport
from agent.mqtt.memory import MemoryTransport, shared_bus
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.transport import Message, Transport

__all__ = ["create"]

_BATCHES_ABREAST: Final = 4


def create(
    name: str, options: TransportOptions | MemoryOptions, *, will: Message | None = None, folder: Path | None = None
) -> Transport:
    """A transport called ``name``; ``will`` is what others read when it is gone without a goodbye.

    ``folder`` is where the outbox is, if there is to be one.  Raises ``ConfigError`` when the options cannot be used,
    or need what is not installed.
    """
    if isinstance(options, MemoryOptions):
        return MemoryTransport(shared_bus(options.bus), name, will=will)
    transport = _over_network(name, options, will)
    if options.outbox is None:
        return transport

    def check(message: Message) -> None:
        transport.limits.check(message)  # of the connection as it is then
        if len(message.payload) > options.max_queued_bytes:
            raise PublishError(
                f"a message of {len(message.payload)} bytes for {message.topic!r} is larger than max_queued_bytes",
                code="packet-too-large",
                hint="raise max_queued_bytes, or publish less",
            )

    path = (folder or Path()) / (options.outbox.path or f"outbox/{name}.db")
    return Outbox(transport, _filling_batches(options.outbox, options), path, check=check)


def _filling_batches(outbox: OutboxOptions, options: TransportOptions) -> OutboxOptions:
    """The outbox's options with so many in flight that batches get full: else each waits for its time, half empty."""
    batch = options.batch if isinstance(options, IotCoreOptions) else None
    if batch is None:
        return outbox
    enough = min(_BATCHES_ABREAST * batch.max_messages, options.max_queued_messages)
    return replace(outbox, in_flight=max(outbox.in_flight, enough))


def _over_network(name: str, options: TransportOptions, will: Message | None) -> MqttTransport:
    if not isinstance(options, IotCoreOptions):
        return MqttTransport(name, options, will=will)
    try:
        # Imported here: an agent without IoT Core does not carry what it needs.
        from agent.mqtt.iotcore.client import IotCoreTransport  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"transport {name} needs awscrt, which is not installed ({error})",
            code="not-installed",
            hint="pip install 'verge-edge[aws]'",
        ) from error
    return IotCoreTransport(name, options, will=will)
