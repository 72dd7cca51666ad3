"""What commands that deploy have in common: whom they mean, the id, the signature, and the wait for the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.cli import remote
from agent.cli.endings import Ending
from agent.cli.following import follow
from agent.config.load import Config
from agent.errors import ConfigError
from agent.greengrass.deployments.trust import Link
from agent.results.ulid import Ulids

__all__ = ["TIMEOUT_S", "followed", "near", "new_id", "sealed", "thing_option"]

TIMEOUT_S = 300.0
_DAYS = 30


def thing_option(config: Config, said: str) -> str:
    """The thing that is meant: named, or the one of the agent's own file; empty is the only one on the broker."""
    of_file = click.get_current_context().params.get("path") is not None
    return said or (config.thing if of_file else "")


async def followed(
    agent: remote.Remote, content: bytes, identity: str | None, timeout_s: float, canary: int | None = None
) -> Ending:
    """Send a document and show how it goes."""
    plan: dict[str, Any] = {}
    began = time.monotonic()
    with follow(canary=canary) as seen:

        def told(payload: Mapping[str, Any]) -> None:
            plan.update({key: payload[key] for key in ("components", "removed") if key in payload})
            seen.told(payload)

        end = await agent.deploy(content, identity, told, timeout_s=timeout_s)
    return Ending(agent.thing, end, time.monotonic() - began, plan)


def sealed(content: bytes, key: Path | None, secret: Path | None, thing: str | None) -> bytes:
    """The document in an envelope that ``key`` signed, for ``thing`` alone; without a key as it is."""
    if key is None:
        return content
    from agent.cli import signing  # noqa: PLC0415 what signs needs a library that sending does not

    if secret is not None and not (words := signing.content(secret).strip()):
        raise ConfigError(f"there is no passphrase in {secret}", code="passphrase-missing")
    private = signing.PrivateKey.read(key, words if secret else None)
    now = datetime.now(UTC)
    return signing.seal(signing.with_claims(content, thing, now + timedelta(days=_DAYS), now), private)


def near(config: Config) -> bool:
    """Whether an agent on that broker reads this machine's files."""
    name = (config.deployments.transport if config.deployments else "") or config.first_transport
    return Link.of(config.transports[name]).on_this_machine


def new_id() -> str:
    """An id for a deployment or a job; later ones sort after earlier ones."""
    return Ulids().new().lower()
