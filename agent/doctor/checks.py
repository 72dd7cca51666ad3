"""The examination: every check in order, each giving findings; one that breaks is itself a finding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from agent.config.load import Config, load
from agent.doctor import brokers, components, deployers, files, libraries, machine, models, tls
from agent.doctor.finding import Finding
from agent.errors import VergeError

__all__ = ["DEVICE", "MACHINE", "OF_CONFIG", "examine"]

Findings: TypeAlias = Sequence[Finding] | Awaitable[Sequence[Finding]]

MACHINE: tuple[tuple[str, Callable[[], Findings]], ...] = (
    ("machine", machine.findings),
    ("libraries", libraries.findings),
    ("sample model", models.sample),
)
"""The checks of what every agent needs."""

DEVICE: tuple[tuple[str, Callable[[Path], Findings]], ...] = (("components", components.findings),)
"""The checks of what components require, which are kept in a folder."""

OF_CONFIG: tuple[tuple[str, Callable[[Config], Findings]], ...] = (
    ("files", files.findings),
    ("tls", tls.findings),
    ("brokers", brokers.findings),
    ("deployers", deployers.findings),
    ("models", models.configured),
)
"""The checks of what one configuration names."""


async def examine(path: Path | None) -> AsyncIterator[Finding]:
    """Findings as they are made: of this machine, and of the configuration if one is named."""
    config = None if path is None else _config(path)
    folder = Path(config.data_dir) if isinstance(config, Config) else Path.cwd()
    # Interpreters take their time to answer: they are asked while the machine is looked at.
    device = [asyncio.create_task(_checked(name, partial(check, folder))) for name, check in DEVICE]
    try:
        for name, check in MACHINE:
            for finding in await _checked(name, check):
                yield finding
        for task in device:
            for finding in await task:
                yield finding
    finally:
        for task in device:
            task.cancel()
    if isinstance(config, Finding):
        yield config
    if not isinstance(config, Config):
        return
    detail = f"{path}: thing {config.thing}; models {_names(config.models)}; streams {_names(config.streams)}"
    yield Finding.ok("config", detail)
    for name, check_config in OF_CONFIG:
        for finding in await _checked(name, partial(check_config, config)):
            yield finding


def _config(path: Path) -> Config | Finding:
    try:
        return load(path)
    except VergeError as error:
        return Finding.of("config", error)


async def _checked(name: str, check: Callable[[], Findings]) -> Sequence[Finding]:
    try:
        results = check()
        return await results if isinstance(results, Awaitable) else results
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 an examination goes on
        problem = f"the check broke: {type(error).__name__}: {error}"
        return [Finding.fail(name, problem, "report this, with the line above")]


def _names(known: Iterable[str]) -> str:
    return ", ".join(known) or "none"
