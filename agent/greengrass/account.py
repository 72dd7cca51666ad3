"""What a device with an AWS account brings to deployments; each part is loaded only where it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

from agent.aws.credentials import CredentialsProvider
from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.execution import Job
from agent.config.aws import AwsOptions
from agent.config.transports import IotCoreOptions, TransportOptions
from agent.greengrass.components.supervisor import Supervisor
from agent.mqtt.transport import Transport

__all__ = ["Account", "Operation", "check", "enter"]


class Operation(Protocol):
    """What jobs can ask of the agent besides deployments."""

    def takes(self, job: Job) -> bool:
        """Whether a job is one of these."""

    def begin(self, job: Job, client: JobsClient) -> None:
        """Do it, and report its end to ``client``."""


@dataclass(frozen=True, slots=True)
class Account:
    """Nothing of it on a device without one."""

    credentials: CredentialsProvider | None = None
    granted: Mapping[str, str] = field(default_factory=dict)
    """What components are told that may ask the agent for the device's credentials."""
    operation: Operation | None = None
    """The rotation of the device's certificate."""


async def enter(
    aws: AwsOptions | None, thing: str, link: tuple[Transport, TransportOptions], supervisor: Supervisor,
    tasks: asyncio.TaskGroup, stack: AsyncExitStack,
) -> Account:  # fmt: skip
    """The account of a thing; its servers run until the stack is left.  Raises ``ConfigError``."""
    operation = _rotation(thing, *link, tasks, stack)
    if aws is None:
        return Account(operation=operation)
    credentials = _credentials(aws, thing)
    granted = await _granted(credentials, supervisor, stack) if credentials is not None else {}
    return Account(credentials, granted, operation)


def check(aws: AwsOptions | None, thing: str) -> None:
    """Raise the ``ConfigError`` that ``enter`` would."""
    if aws is not None:
        _credentials(aws, thing)


def _credentials(aws: AwsOptions, thing: str) -> CredentialsProvider | None:
    from agent.aws.iot import IotCredentials  # noqa: PLC0415

    return IotCredentials.of(aws, thing)


async def _granted(
    credentials: CredentialsProvider, supervisor: Supervisor, stack: AsyncExitStack
) -> Mapping[str, str]:
    from agent.aws.tes.exchange import URI_VARIABLE  # noqa: PLC0415
    from agent.aws.tes.server import TokenExchange  # noqa: PLC0415

    def may(token: str) -> bool:
        holder = supervisor.holder(token)
        return holder is not None and URI_VARIABLE in holder.env

    exchange = await stack.enter_async_context(TokenExchange(credentials, may))
    return exchange.env


def _rotation(
    thing: str, transport: Transport, options: TransportOptions, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> Operation | None:
    if not isinstance(options, IotCoreOptions) or options.way != "certificate":
        return None
    from agent.aws.provision.operation import Rotation  # noqa: PLC0415

    rotation = Rotation(thing, options, transport, tasks)
    stack.push_async_callback(rotation.close)
    return rotation
