"""The pictures that a command's arguments name: how they are read, and answered by a loaded model.

A file is recognised as a payload on a topic is: a picture, or text that holds one.  A picture that cannot be read is
an error of its own, so that one bad argument does not keep the others from their answer.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from msgspec.structs import replace

from agent.config.streams import FrameLimits
from agent.errors import FrameError, VergeError, WorkerLostError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, PoolState, Snapshot

__all__ = ["PictureResult", "PictureSource", "answer", "expand", "limited"]

_STDIN = "-"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy")
"""The files that are taken from a folder; a file that is named itself may be called anything."""
_LIMITING = {"image-classification": "top_k", "object-detection": "max_detections"}
"""Task → the option that limits how many predictions it gives."""


@dataclass(frozen=True, slots=True)
class PictureSource:
    """One picture by the name that its result has: a path, or ``-`` for standard input."""

    name: str

    @property
    def stem(self) -> str:
        """The name of a file made from this picture, without a suffix."""
        return "stdin" if self.name == _STDIN else Path(self.name).stem

    def read(self, limits: FrameLimits) -> Picture:
        """The picture; raises ``FrameError`` for a file that cannot be read or is none."""
        # One byte past the limit is enough to be refused for.
        size = limits.max_bytes + 1
        if self.name == _STDIN:
            return recognise(sys.stdin.buffer.read(size), None, limits)
        path = Path(self.name)
        try:
            with path.open("rb") as file:
                return recognise(file.read(size), None, limits)
        except IsADirectoryError:
            hint = f"a folder is searched for {', '.join(_SUFFIXES)}; name other files themselves"
            raise FrameError("there is no picture in the folder", hint=hint, code="folder-empty") from None
        except OSError as error:
            hint = "check the path; quote a pattern that the shell must not expand"
            raise FrameError(f"the file cannot be read: {error.strerror}", hint=hint, code="file-unreadable") from error


def expand(arguments: Sequence[str]) -> list[PictureSource]:
    """The pictures in the order of the arguments; folders and patterns in the order of names."""
    return [PictureSource(name) for argument in arguments for name in _names(argument)]


def _names(argument: str) -> Iterator[str]:
    path = Path(argument)
    if argument == _STDIN or path.is_file():
        names = []
    elif path.is_dir():
        names = sorted(str(entry) for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES)
    else:
        names = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 an absolute pattern is one too
    yield from names or [argument]


@dataclass(frozen=True, slots=True)
class PictureResult:
    """One picture and its answer, or the error in its place."""

    source: PictureSource
    outcome: Answer | VergeError
    total_ms: float = 0.0
    """From handing it over to its answer."""
    annotated: Path | None = None
    """The file of the annotated picture."""


async def answer(plane: InferencePlane, source: PictureSource, snapshot: Snapshot | None = None) -> PictureResult:
    """Have one picture answered; an error of the picture or of the model is its outcome."""
    try:
        picture = source.read(FrameLimits())
        status = plane.status(MODEL)
        if status.state is PoolState.BROKEN:
            raise WorkerLostError(f"the model lost every worker: {status.reason}", code="model-broken")
        began = perf_counter()
        answered = await plane.infer(MODEL, picture, snapshot=snapshot, label=source.stem)
        return PictureResult(source, answered, (perf_counter() - began) * 1e3)
    except VergeError as error:
        return PictureResult(source, error)


async def limited(spec: ModelSpec, top_k: int) -> ModelSpec:
    """The same model with at most ``top_k`` predictions; where only the file says its task, it is loaded for that."""
    task = spec.manifest.task
    if task == "auto":
        async with loaded(spec) as (_, description):
            task = description.task
    options = spec.manifest.options | {_LIMITING.get(task, "top_k"): top_k}
    return replace(spec, manifest=replace(spec.manifest, options=options))
