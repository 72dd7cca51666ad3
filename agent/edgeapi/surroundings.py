"""The agent's other parts, as the servers see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.config.streams import FrameLimits
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.mqtt.replies import AnswerTopics
from agent.mqtt.transport import Transport
from agent.topics import Topics
from agent.users import Identity

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The agent's other parts, which servers work with."""

    thing: str
    data_dir: Path
    folder: Path
    """Where relative paths of the configuration start."""
    plane: InferencePlane
    transports: Mapping[str, Transport] = field(default_factory=dict)
    report: Callable[[str, Any], None] = lambda _key, _fact: None
    """Has a fact stand on the status topic."""
    components: Callable[[], Mapping[str, ModelSpec]] = dict
    """Component → its model, of those that are deployed now."""
    user: Identity | None = None
    """Whom workers run as."""
    retain: Callable[[str, Any], None] = lambda _topic, _payload: None
    """Retains a JSON document on a topic below the agent's own."""
    aws: AwsOptions | None = None
    credentials: CredentialsProvider | None = None
    topics: Topics = field(default_factory=lambda: Topics("verge"))
    answers: AnswerTopics = field(default_factory=AnswerTopics)
    """Where answers may go."""
    limits: FrameLimits = field(default_factory=FrameLimits)
    """What a picture may cost."""
    forget: Callable[[str], None] = lambda _name: None
    """Hears which model of a server's is gone: nothing of it stands on a topic any more."""
