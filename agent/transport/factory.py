"""A transport for what the configuration says."""

from __future__ import annotations

from agent.transport.base import Message, Transport
from agent.transport.memory import MemoryTransport, shared_bus
from agent.transport.mqtt import MqttTransport
from agent.transport.options import MemoryOptions, MqttOptions

__all__ = ["create"]


def create(name: str, options: MqttOptions | MemoryOptions, *, will: Message | None = None) -> Transport:
    """A transport called ``name``; ``will`` is what others read when it is gone without a goodbye.

    Raises ``ConfigWrong`` when the options cannot be used.
    """
    if isinstance(options, MemoryOptions):
        return MemoryTransport(shared_bus(options.bus), name, will=will)
    return MqttTransport(name, options, will=will)
