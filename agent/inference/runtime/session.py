"""One model, ready to answer: decode → preprocess → backend → task, in one call.

The session owns what a model needs besides its network: how a picture becomes its input, how its
outputs become predictions, and what its file says about it.  A model may bring steps of its own: one
between decoding and preprocessing, and one behind the task.
"""

from __future__ import annotations

import hashlib
import os
from time import perf_counter
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import arrays, contracts, custom, decode, draw, labels, plugins
from agent.inference.runtime.answers import WorkerAnswer
from agent.inference.runtime.base import Backend, Geometry, Labels, Prediction, Task, TensorInfo
from agent.inference.runtime.decode import Decoded
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.preprocess import InputSpec, Preprocessor

__all__ = ["Session"]

_Step = Callable[[Any], Any]
_Predictor = Callable[[Sequence[np.ndarray], Geometry], List[Prediction]]


class Session:
    """A loaded model; ``model`` is the manifest with absolute paths.

    Raises ``ModelError`` when the model, its labels or its options cannot be used.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        started = perf_counter()
        self.path = str(model["file"])
        if not os.path.exists(self.path):
            raise ModelError("model-missing", f"there is no model at {self.path}", "check the path in the manifest")
        threads = int(model.get("threads", 1))
        decode.configure(threads)
        self.backend = _open(self.path, threads, model)
        self.labels = _labels(model.get("labels"), self.backend)
        self.task = _task(model, self.backend, self.labels)
        if not self.backend.inputs:
            raise ModelError("model-without-input", f"{self.path} has no input", None)
        self.preprocess = Preprocessor(
            InputSpec.parse(model.get("input") or {}, self.backend.metadata), self.backend.inputs[0]
        )
        self._before = _step("preprocess", model)
        self._run = _runner(self.backend)
        self._predictions = _predictor(self.task, _step("postprocess", model))
        self._quantised = [_dequantise(tensor) for tensor in self.backend.outputs]
        self._warm_up()
        self._load_ms = (perf_counter() - started) * 1e3

    def infer(
        self, data: bytes | memoryview, encoding: str, snapshot: Optional[Mapping[str, Any]] = None
    ) -> WorkerAnswer:
        """Answer one encoded picture; raises ``ModelError`` for one that cannot be decoded or answered."""
        start = perf_counter()
        picture = decode.decode(data, encoding, None if snapshot or self._before else self.preprocess.cover)
        decoded = perf_counter()
        picture, array, geometry = self._prepare(picture)
        ready = perf_counter()
        outputs = self._run([array])
        answered = perf_counter()
        predictions = self._predictions(self._real(outputs), geometry)
        finished = perf_counter()
        timing = {
            "decode": _ms(decoded - start),
            "preprocess": _ms(ready - decoded),
            "infer": _ms(answered - ready),
            "postprocess": _ms(finished - answered),
        }
        return WorkerAnswer(
            predictions, timing, picture.width, picture.height, _snapshot(picture.pixels, predictions, snapshot)
        )

    def run(self, places: Sequence[Mapping[str, Any]], data: memoryview, wanted: Sequence[str]) -> arrays.Outputs:
        """The network alone: what lies at ``places`` in ``data`` through it, and the outputs that are wanted.

        Raises ``ModelError`` for inputs that the network does not take, or a wanted output that it does not have.
        """
        inputs = arrays.ordered(arrays.read(places, data), self.backend.inputs)
        start = perf_counter()
        outputs = self._run(inputs)
        timing = {"infer": _ms(perf_counter() - start)}
        return arrays.Outputs(arrays.chosen(outputs, self.backend.outputs, wanted), timing)

    def _prepare(self, picture: Decoded) -> Tuple[Decoded, np.ndarray, Geometry]:
        """The frame, the network's input, and how that lies in the frame."""
        if self._before is None:
            return (picture, *self.preprocess(picture))
        given = self._before(Picture.of(picture.pixels))
        array, inner = self.preprocess(_decoded(given.pixels))
        return _decoded(given.frame), array, given.placed(inner)

    def describe(self) -> Dict[str, Any]:
        """What the model is, as JSON."""
        return {
            "backend": f"{_name(self.backend)} {self.backend.version()}".rstrip(),
            "accelerator": self.backend.accelerator,
            "task": _name(self.task),
            "digest": _digest(self.path),
            "inputs": [tensor.as_dict() for tensor in self.backend.inputs],
            "outputs": [tensor.as_dict() for tensor in self.backend.outputs],
            "labels": len(self.labels.names),
            "load_ms": _ms(self._load_ms / 1e3),
        }

    def _real(self, outputs: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Quantised outputs as the real numbers they stand for."""
        return [real(array) if real else array for real, array in zip(self._quantised, outputs)]

    def _warm_up(self) -> None:
        """Answer a grey JPEG, so that the first camera frame pays for nothing but itself."""
        self.infer(draw.encode(np.full((480, 640, 3), 127, np.uint8)), "jpeg")


def _open(path: str, threads: int, model: Mapping[str, Any]) -> Backend:
    name = model.get("backend") or "auto"
    kind = plugins.backend_for(path) if name == "auto" else plugins.backend(name)
    backend = kind(path, threads, model.get("accelerator") or "auto", model.get("backend_options") or {})
    if not plugins.is_own(kind):
        contracts.network(backend, _name(backend))
    return backend


def _labels(path: Optional[str], backend: Backend) -> Labels:
    if path:
        return labels.read(path)
    return labels.of(backend.metadata.get("labels") or ())


def _task(model: Mapping[str, Any], backend: Backend, names: Labels) -> Task:
    name = model.get("task") or "auto"
    kind = plugins.task_for(backend.inputs, backend.outputs) if name == "auto" else plugins.task(name)
    return kind(model.get("options") or {}, names, backend.inputs, backend.outputs)


def _runner(backend: Backend) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
    """How the network is run: a user's backend is checked whenever it answers."""
    if plugins.is_own(type(backend)):
        return backend.run
    return lambda given: contracts.arrays(backend.run(given), len(backend.outputs), _name(backend))


def _predictor(task: Task, after: Optional[_Step]) -> _Predictor:
    """What the outputs say: a user's task is checked too, and a step behind it has the last word."""

    def checked(outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        return contracts.predictions(task.predictions(outputs, geometry), _name(task))

    first = task.predictions if plugins.is_own(type(task)) else checked
    return first if after is None else lambda outputs, geometry: after(first(outputs, geometry))


def _step(word: str, model: Mapping[str, Any]) -> Optional[_Step]:
    """A model's own step, whose answers are checked; None where it has none."""
    name = model.get(word)
    if not name:
        return None
    call, who = plugins.step(word, name, model.get(f"{word}_options") or {}), custom.shown(name)
    check = {"preprocess": contracts.picture, "postprocess": contracts.predictions}[word]
    return lambda given: check(call(given), who)


def _name(part: Any) -> str:
    """What a backend or task calls itself."""
    return str(part.name or type(part).__name__)


def _decoded(pixels: np.ndarray) -> Decoded:
    pixels = np.ascontiguousarray(pixels)
    return Decoded(pixels, pixels.shape[1], pixels.shape[0])


def _dequantise(tensor: TensorInfo) -> Any:
    if tensor.scale is None or np.dtype(tensor.dtype).kind not in "iu":
        return None
    scale, zero_point = np.float32(tensor.scale), np.float32(tensor.zero_point)
    return lambda array: (array.astype(np.float32) - zero_point) * scale


def _snapshot(pixels: np.ndarray, predictions: Sequence[Prediction], wanted: Optional[Mapping[str, Any]]) -> bytes:
    if not wanted:
        return b""
    return draw.encode(draw.annotate(pixels, predictions, wanted.get("max_side")), wanted.get("quality", 80))


def _digest(path: str) -> str:
    """Of a file's contents, or of a folder's files: their sorted names and the digest of each."""
    digest = hashlib.sha256()
    if os.path.isdir(path):
        for name in _files(path):
            entry = f"{name}\0{_digest(os.path.join(path, name))}\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    else:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def _files(folder: str) -> List[str]:
    """The files of a model's folder, relative to it; without hidden ones and what Python leaves behind."""
    found: List[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        paths = (os.path.join(place, name) for name in names if not name.startswith("."))
        found += [os.path.relpath(path, folder) for path in paths if os.path.isfile(path)]
    return sorted(found)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
