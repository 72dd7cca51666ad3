"""Every error the agent raises on purpose, and what to do about each.

::

    VergeError                          code, message, hint, path
    ├── InvalidInputError               what we were given is wrong: report it, do not retry
    │   ├── ConfigError                 the configuration cannot be used
    │   ├── FrameError                  a payload is no picture, or one past the limits
    │   ├── ModelRefusedError           a model cannot be loaded, or refused a picture
    │   ├── BackendUnavailableError     what the model needs is not installed here
    │   ├── PublishError                a message the broker would not take
    │   ├── RecipeError …               a recipe, a stored configuration (``agent.greengrass.recipes``)
    │   ├── ArtifactError               an artifact that is not what it should be (``agent.greengrass.artifacts``)
    │   ├── ComponentError              a set of scripts that cannot be run (``agent.greengrass.components``)
    │   ├── ComponentKeyError           a key of an AWS component's configuration (``agent.greengrass.catalog``)
    │   ├── DeploymentError …           a document, a set, a golden frame (``agent.greengrass.deployments``)
    │   ├── JobError                    what the Jobs service does not do (``agent.aws.jobs.service``)
    │   └── UnsupportedRuntimeError     no combination gives a runtime here (``agent.inference.environments``)
    └── UnreachableError                what we could not reach: back off and retry
        ├── BrokerUnreachableError      no connection to the broker
        ├── NotConnectedError           a message could not be queued while the link is down
        ├── WorkerLostError             a worker process died, hung or was replaced
        ├── FolderInUseError            another agent has the data folder (``agent.disk``)
        ├── ArtifactUnreachableError    an artifact cannot be had now (``agent.greengrass.artifacts``)
        ├── LedgerError                 the ledger's disk (``agent.greengrass.deployments``)
        └── RuntimeUnreachableError     a runtime cannot be had now (``agent.inference.environments``)

``code`` is a stable kebab-case word for status topics, logs and programs; ``message`` says what
happened; ``hint`` says what to do about it.
"""

from __future__ import annotations

from typing import ClassVar, Self

__all__ = [
    "BackendUnavailableError",
    "BrokerUnreachableError",
    "ConfigError",
    "FrameError",
    "InvalidInputError",
    "ModelRefusedError",
    "NotConnectedError",
    "PublishError",
    "UnreachableError",
    "VergeError",
    "WorkerLostError",
]


class VergeError(Exception):
    """An error with a stable code, a sentence for a person, a hint on how to mend it, and where it lies.

    ``path`` is the place in what was given, as that spells places (``streams.line.input.topic``,
    ``Manifests[1].Artifacts[0].Uri``); empty for the whole of it.
    """

    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.path = path

    def within(self, path: str) -> Self:
        """The same error in something larger, where what it is about stands at ``path``."""
        self.path = f"{path}.{self.path}" if self.path else path
        return self

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class InvalidInputError(VergeError):
    """What we were given is wrong; trying again gives the same answer."""

    default_code = "wrong"


class ConfigError(InvalidInputError):
    """The configuration cannot be used."""

    default_code = "config-wrong"


class FrameError(InvalidInputError):
    """A payload is not a picture the agent takes."""

    default_code = "not-an-image"


class ModelRefusedError(InvalidInputError):
    """A model cannot be loaded, or cannot answer what it was asked."""

    default_code = "model-refused"


class BackendUnavailableError(InvalidInputError):
    """The backend, task or accelerator a model asks for is not available here."""

    default_code = "backend-unavailable"


class PublishError(InvalidInputError):
    """A message exceeds what the broker takes, or its topic is not one to publish on."""

    default_code = "publish-refused"


class UnreachableError(VergeError):
    """What we need cannot be reached now; back off and try again."""

    default_code = "unreachable"


class BrokerUnreachableError(UnreachableError):
    """There is no connection to the broker."""

    default_code = "broker-unreachable"


class NotConnectedError(UnreachableError):
    """A message could not be taken because the link is down and the queue for it is full."""

    default_code = "not-connected"


class WorkerLostError(UnreachableError):
    """A worker process died, hung or was replaced while it held the frame."""

    default_code = "worker-lost"
