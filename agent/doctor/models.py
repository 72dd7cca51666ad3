"""Models, loaded in real workers: the sample answers its picture, the configured ones load."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from agent.config.load import Config
from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.doctor.finding import Finding
from agent.errors import VergeError
from agent.frames.recognise import recognise
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, for_user, resolve
from agent.inference.predictions import headline
from agent.inference.values import ModelMetadata
from agent.users import Identity, worker_user

__all__ = ["configured", "sample"]

_SAMPLE, _PICTURE, _EXPECTED = "classifier", "chelsea.jpg", "Egyptian cat"


async def sample() -> list[Finding]:
    """Whether the sample model recognises the sample picture."""
    check = "sample model"
    try:
        data = (SAMPLES.parent / "images" / _PICTURE).read_bytes()
        async with loaded(resolve(ModelOptions(source=_SAMPLE), Path())) as (plane, model):
            answer = await plane.infer(MODEL, recognise(data, None, FrameLimits()))
    except OSError as error:
        return [Finding.fail(check, f"{error.filename}: {error.strerror}", "install verge-edge again")]
    except VergeError as error:
        return [Finding.of(check, error)]
    name, score = headline(answer.predictions[0]) if answer.predictions else ("nothing", None)
    detail = f"{name} {score or 0:.2f} in {answer.timing_ms['infer']:.1f} ms, {_how(model)}"
    if name != _EXPECTED:
        fix = f"{_EXPECTED!r} is right: install the backend again, in another version"
        return [Finding.fail(check, detail, fix)]
    return [Finding.ok(check, detail)]


async def configured(config: Config) -> list[Finding]:
    """Whether each model of the configuration loads; one after the other, as memory may be scarce."""
    user = worker_user(config.deployments.run_as if config.deployments else "")
    return [await _model(f"model {name}", options, config.folder, user) for name, options in config.models.items()]


async def _model(check: str, options: ModelOptions, folder: Path, user: Identity | None) -> Finding:
    try:
        # In one worker: a second one proves nothing more.
        spec = for_user(resolve(replace(options, workers=1), folder), user)
        async with loaded(spec) as (_, model):
            name = f"{model.name} {model.version}".rstrip()
    except VergeError as error:
        return Finding.of(check, error)
    detail = f"{name}, {model.task}, {_how(model)}"
    if user is not None and spec.user is None:
        fix = f"deploy it as a component, or let {user.name} read its files; or run the agent as a user of its own"
        return Finding.warn(check, f"{detail}; its workers run as root", fix)
    return Finding.ok(check, detail)


def _how(model: ModelMetadata) -> str:
    return f"{model.backend} on {model.accelerator}, loaded in {model.load_ms:.0f} ms"
