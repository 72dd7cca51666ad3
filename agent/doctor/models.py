"""Models, loaded in real workers: the sample answers its picture, the configured ones load."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from msgspec.structs import replace

from agent.config import Config
from agent.doctor.finding import Finding
from agent.errors import VergeError
from agent.frames.frame import Limits
from agent.frames.recognise import recognise
from agent.inference.manifest import SAMPLES, ModelOptions, ModelSpec, resolve
from agent.inference.plane import InferencePlane
from agent.inference.values import Description

__all__ = ["configured", "sample"]

_SAMPLE, _PICTURE, _EXPECTED = "classifier", "chelsea.jpg", "Egyptian cat"


async def sample() -> list[Finding]:
    """Whether the sample model recognises the sample picture."""
    check = "sample model"
    async with asyncio.TaskGroup() as tasks, _plane(tasks) as plane:
        try:
            data = (SAMPLES.parent / "images" / _PICTURE).read_bytes()
            model = await plane.load(_SAMPLE, resolve(ModelOptions(source=_SAMPLE), Path()))
            answer = await plane.infer(_SAMPLE, recognise(data, None, Limits()))
        except OSError as error:
            return [Finding.fail(check, f"{error.filename}: {error.strerror}", "install verge-edge again")]
        except VergeError as error:
            return [Finding.of(check, error)]
    best = answer.predictions[0] if answer.predictions else {"label": "nothing", "score": 0.0}
    told = f"{best['label']} {best['score']:.2f} in {answer.timing_ms['infer']:.1f} ms, {_loaded(model)}"
    if best["label"] != _EXPECTED:
        fix = f"{_EXPECTED!r} is right: install the backend again, in another version"
        return [Finding.fail(check, told, fix)]
    return [Finding.ok(check, told)]


async def configured(config: Config) -> list[Finding]:
    """Whether each model of the configuration loads; one after the other, as memory may be scarce."""
    return [await _model(name, options, config) for name, options in config.models.items()]


async def _model(name: str, options: ModelOptions, config: Config) -> Finding:
    check = f"model {name}"
    async with asyncio.TaskGroup() as tasks, _plane(tasks) as plane:
        try:
            model = await plane.load(name, _alone(resolve(options, config.folder)))
        except VergeError as error:
            return Finding.of(check, error)
    return Finding.ok(check, f"{model.name} {model.version}".rstrip() + f", {model.task}, {_loaded(model)}")


def _alone(spec: ModelSpec) -> ModelSpec:
    """The same model in one worker: a second one proves nothing more."""
    return replace(spec, run=replace(spec.run, workers=1))


def _plane(tasks: asyncio.TaskGroup) -> InferencePlane:
    # Nothing is quarantined: the one picture that is asked for is our own.
    return InferencePlane(tasks, Path(tempfile.gettempdir()) / "verge-doctor")


def _loaded(model: Description) -> str:
    return f"{model.backend} on {model.accelerator}, loaded in {model.load_ms:.0f} ms"
