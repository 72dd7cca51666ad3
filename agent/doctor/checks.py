"""The examination: every check in order, each giving findings; one that breaks is itself a finding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from agent.config import Config, load
from agent.doctor import brokers, files, libraries, machine, models, tls
from agent.doctor.finding import Finding
from agent.errors import VergeError

__all__ = ["MACHINE", "OF_CONFIG", "examine"]

Found: TypeAlias = Sequence[Finding] | Awaitable[Sequence[Finding]]

MACHINE: tuple[tuple[str, Callable[[], Found]], ...] = (
    ("machine", machine.findings),
    ("libraries", libraries.findings),
    ("sample model", models.sample),
)
"""What every agent needs."""

OF_CONFIG: tuple[tuple[str, Callable[[Config], Found]], ...] = (
    ("files", files.findings),
    ("tls", tls.findings),
    ("brokers", brokers.findings),
    ("models", models.configured),
)
"""What one configuration asks for."""


async def examine(path: Path | None) -> AsyncIterator[Finding]:
    """Findings as they are made: of this machine, and of the configuration if one is named."""
    for name, check in MACHINE:
        for finding in await _found(name, check):
            yield finding
    if path is None:
        return
    try:
        config = load(path)
    except VergeError as error:
        yield Finding.of("config", error)
        return
    told = f"{path}: thing {config.thing}; models {_names(config.models)}; streams {_names(config.streams)}"
    yield Finding.ok("config", told)
    for name, check_config in OF_CONFIG:
        for finding in await _found(name, partial(check_config, config)):
            yield finding


async def _found(name: str, check: Callable[[], Found]) -> Sequence[Finding]:
    try:
        found = check()
        return await found if isinstance(found, Awaitable) else found
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 an examination goes on
        problem = f"the check broke: {type(error).__name__}: {error}"
        return [Finding.fail(name, problem, "report this, with the line above")]


def _names(known: Iterable[str]) -> str:
    return ", ".join(known) or "none"
