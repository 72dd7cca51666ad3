"""What a model is measured on: its golden frames, or failing those the pictures that ship with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config.streams import FrameLimits
from agent.errors import FrameError, ModelRefusedError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise
from agent.inference.manifest import SAMPLES, ModelSpec

__all__ = ["Sample", "samples"]

_GOLDEN = "golden"
_PACKAGED = SAMPLES.parent / "images"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy")
_MOST = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and what it is called."""

    name: str
    picture: Picture


def samples(spec: ModelSpec) -> tuple[Sample, ...]:
    """At most eight pictures; blocks while it reads them.  Raises ``ModelRefusedError`` where there is none."""
    file = Path(spec.manifest.file)
    for folder in ((file if file.is_dir() else file.parent) / _GOLDEN, _PACKAGED):
        if found := _read(folder):
            return found
    raise ModelRefusedError(
        "there are no pictures to measure the model on",
        hint=f"put some beside the model, into {_GOLDEN}/",
        code="no-pictures",
    )


def _read(folder: Path) -> tuple[Sample, ...]:
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    read = (_sample(path) for path in _spread(paths))
    return tuple(each for each in read if each is not None)


def _spread(paths: Sequence[Path]) -> Sequence[Path]:
    """Some from the beginning, the middle and the end of many: neighbours are alike."""
    return [paths[index * len(paths) // _MOST] for index in range(_MOST)] if len(paths) > _MOST else paths


def _sample(path: Path) -> Sample | None:
    """The picture; None for a file that is none, which the check of golden frames tells of."""
    limits = FrameLimits()
    try:
        with path.open("rb") as file:
            picture = recognise(file.read(limits.max_bytes + 1), None, limits)
    except (OSError, FrameError):
        return None
    return Sample(path.name, picture)
