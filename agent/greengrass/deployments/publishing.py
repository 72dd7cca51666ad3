"""The retained topics of deployments: how far each is, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from agent.errors import VergeError
from agent.mqtt.transport import Delivered, Message, Transport
from agent.results.result import utc
from agent.topics import Topics

__all__ = ["DeploymentTopics"]

log = logging.getLogger(__name__)


class DeploymentTopics:
    """Publishes to the topics of deployments; what the link does not take is logged."""

    def __init__(self, transport: Transport, topics: Topics) -> None:
        self._transport = transport
        self._topics = topics

    def publish(
        self, identity: str, payload: Mapping[str, Any], delivered: Delivered | None = None, *, retain: bool = True
    ) -> None:
        """Publish what is to be known of a deployment."""
        self._send(identity, msgspec.json.encode({**payload, "at": utc(time.time())}), delivered, retain=retain)

    def forget(self, identity: str) -> None:
        """Have the broker retain nothing of a refused document that had to make room."""
        self._send(identity, b"", None, retain=True)

    def _send(self, identity: str, content: bytes, delivered: Delivered | None, *, retain: bool) -> None:
        topic = self._topics.deployment(identity)
        message = Message(topic, content, qos=1, retain=retain, content_type="application/json")
        try:
            self._transport.publish(message, delivered)
        except VergeError as error:
            log.warning("the state of deployment %s could not be published: %s", identity, error)
