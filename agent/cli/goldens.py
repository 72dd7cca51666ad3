"""A model component's golden frames on this machine: recorded from what the model says now, or held against it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.cli.pictures import Source
from agent.errors import ConfigError
from agent.files import write_atomically
from agent.greengrass.deployments.golden import FOLDER, NAME, GoldenLimits, check, load
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec
from agent.results.comparison import record

__all__ = ["agrees", "recorded"]


async def agrees(spec: ModelSpec, folder: Path) -> int:
    """Have the model answer the golden frames of its ``folder``; how many there are.

    Raises what ``golden.check`` does, and what kept the model from loading.
    """
    golden = folder / FOLDER
    frames = load(golden, GoldenLimits())
    async with loaded(spec) as (plane, _):
        await check(lambda picture: plane.infer(MODEL, picture), golden)
    return len(frames)


async def recorded(spec: ModelSpec, folder: Path, pictures: Sequence[Path]) -> None:
    """Put pictures into the golden frames of the model's ``folder``, with what it says of them now.

    A picture of the same name is replaced, the others stay as they are.
    """
    limits = GoldenLimits()
    golden = folder / FOLDER
    entries = _entries(golden)
    async with loaded(spec) as (plane, _):
        for path in pictures:
            answer = await plane.infer(MODEL, Source(str(path)).read(limits.pictures), label=path.stem)
            entries[path.name] = {"picture": path.name, "expect": record(answer.predictions)}
    text = msgspec.json.format(msgspec.json.encode({"pictures": list(entries.values())}), indent=2)
    if len(entries) > limits.max_pictures or len(text) > limits.max_expected_bytes:
        hint = f"devices take {limits.max_pictures} pictures and {limits.max_expected_bytes} bytes of {NAME}"
        raise ConfigError(f"{golden} would hold too much", code="golden-wrong", hint=hint)
    _write(golden, pictures, text)


def _entries(golden: Path) -> dict[str, dict[str, Any]]:
    """What is expected already, by picture."""
    if not load(golden, GoldenLimits()):
        return {}
    if not (golden / NAME).exists():
        raise ConfigError(f"{golden} is written by hand, in TOML", code="golden-wrong", hint=f"turn it into {NAME}")
    told = msgspec.json.decode((golden / NAME).read_bytes())
    return {entry["picture"]: entry for entry in told["pictures"]}


def _write(golden: Path, pictures: Sequence[Path], text: bytes) -> None:
    try:
        golden.mkdir(exist_ok=True)
        for path in pictures:
            if path.resolve() != (golden / path.name).resolve():
                shutil.copyfile(path, golden / path.name)
        write_atomically(golden / NAME, text + b"\n")
    except OSError as error:
        raise ConfigError(f"{golden} cannot be written: {error}", code="not-written") from error
