"""One model, ready to answer: decode → preprocess → backend → task, in one call.

The session owns what a model needs besides its network: how a picture becomes its input, how its
outputs become predictions, and what its file says about it.  A model may bring steps of its own: one
between decoding and preprocessing, and one behind the task.  A frame may be looked at in windows, and
models behind this one may look at what it detects.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import (
    arrays,
    cascade,
    contracts,
    custom,
    decode,
    draw,
    gallery,
    labels,
    modelinfo,
    networks,
    parts,
    plugins,
    recognition,
)
from agent.inference.runtime.answers import WorkerAnswer
from agent.inference.runtime.base import Backend, Geometry, Labels, Network, Prediction, Task, TensorInfo
from agent.inference.runtime.decode import Decoded
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.feed import Feed
from agent.inference.runtime.inputspec import InputSpec
from agent.inference.runtime.merging import merge
from agent.inference.runtime.painting import Painter
from agent.inference.runtime.picture import Picture
from agent.inference.runtime.preprocess import Preprocessor
from agent.inference.runtime.stopwatch import Stopwatch
from agent.inference.runtime.tasks.embedding import ImageEmbedding
from agent.inference.runtime.verdict import Judge
from agent.inference.runtime.windows import Windows

__all__ = ["Session"]

_MADE_UP = draw.encode(np.full((480, 640, 3), 127, np.uint8))
"""The first picture of every model."""
_LARGE = (1080, 1920, 3)
"""The first one that is cut into tiles of some size: how many that makes is part of how long an answer takes."""

_Step = Callable[[Any], Any]
_Predictor = Callable[[Sequence[np.ndarray], Geometry], List[Prediction]]


class Session:
    """A loaded model; ``model`` is the manifest with absolute paths.

    ``busy`` is called whenever the network has been run while it loads, which it is once for each claim that is
    tried, each window and each picture of a gallery.

    Raises ``ModelError`` when the model, its labels or its options cannot be used.
    """

    def __init__(self, model: Mapping[str, Any], busy: Callable[[], None] = lambda: None) -> None:
        started = perf_counter()
        self.path, self._model = str(model["file"]), model
        decode.configure(int(model.get("threads", 1)))
        self.backend = networks.opened(model)
        anomaly = model.get("anomaly") or {}
        self.labels = _labels(model.get("labels"), self.backend, anomaly.get("classes") or ())
        self._before, self._after = _step("preprocess", model), _step("postprocess", model)
        spec = InputSpec.parse(model.get("input") or {})
        self._feed = Feed(self.backend.inputs, self.backend.outputs, spec.others)
        run = networks.runner(self.backend)
        self._run = _reporting(run, busy)
        self._quantised = [_dequantise(tensor) for tensor in self.backend.outputs]
        settled = recognition.settle(self._network(model), model, self._first_run)
        self.task, self.preprocess = settled.task, settled.preprocess
        self._predictions = _predictor(self.task)
        names = (model.get("options") or {}).get("names") or ()
        self._verdict = Judge(anomaly, self.labels, networks.called(self.task), names)
        self._paint = Painter(self._verdict)
        self._last(self._predictions(*settled.first))
        self._stages = [_stage(each, busy) for each in model.get("then") or ()]
        self._learn(model)
        self._recognition, self._warm_up_ms = settled.describe(), settled.warm_up_s * 1e3
        self._recognition["notes"] += self._feed.notes
        self._windows = Windows(spec.tile, spec.regions)
        self._cover = None if self._before or self._stages else self._windows.cover(self.preprocess.cover)
        if not self._windows.is_whole:
            self._warm_up_ms = self._warm_up_windows()
        self._run = run
        self._load_ms = (perf_counter() - started) * 1e3

    def infer(
        self,
        data: bytes | memoryview,
        encoding: str,
        snapshot: Optional[Mapping[str, Any]] = None,
        *,
        size: Optional[Tuple[int, int]] = None,
        canvas: Optional[memoryview] = None,
    ) -> WorkerAnswer:
        """Answer one picture; ``size`` is (width, height) of one that is not encoded.

        With ``canvas``, where anomalies are is painted there (``painting.py``), and there is a verdict in any case.
        Raises ``ModelError`` for a picture that cannot be decoded or answered.
        """
        watch = Stopwatch()
        decoded = decode.decode(data, encoding, None if snapshot else self._cover, size)
        watch.lap("decode")
        frame, predictions = self._answer(decoded, watch)
        if self._verdict.given or canvas is not None:
            predictions = self._verdict(predictions)
        picture = _snapshot(frame.pixels, predictions, snapshot)
        extent = (frame.width, frame.height)
        painting = None if canvas is None else self._paint(predictions, extent, canvas)
        watch.lap("postprocess")
        return WorkerAnswer(predictions, watch.timing(), *extent, picture, decoded.damaged, painting)

    def look(self, view: Picture, watch: Stopwatch) -> List[Prediction]:
        """What the model says of a part of a frame; places are fractions of the whole frame."""
        given = self._before(view) if self._before else view
        return self._finished(self._see(given, watch), given.frame, watch)

    def learn(self, folder: str, look: Callable[[Picture, Stopwatch], List[Prediction]]) -> None:
        """Know what the pictures in ``folder`` show; ``look`` finds this model's vector in each."""
        if not isinstance(self.task, ImageEmbedding):
            hint = 'take the gallery out, or say task = "embedding"'
            raise ModelError("options-wrong", f"a gallery is nothing to {networks.called(self.task)}", hint)
        self.task.learn(*gallery.learned(folder, lambda pixels: cascade.vector(look(Picture.of(pixels), Stopwatch()))))

    def _learn(self, model: Mapping[str, Any]) -> None:
        """Galleries: this model's own of whole pictures, those of the models behind it of what this one detects."""
        if model.get("gallery"):
            self.learn(str(model["gallery"]), self.look)
        stages = self._stages
        for each, stage in zip(model.get("then") or (), stages):
            if each["model"].get("gallery"):
                self._stages = [stage]
                stage.model.learn(str(each["model"]["gallery"]), self.look)
        self._stages = stages

    def _answer(self, frame: Decoded, watch: Stopwatch) -> Tuple[Decoded, List[Prediction]]:
        """The frame as the model's own preprocessing leaves it, and what the model says of it."""
        if self._windows.is_whole:
            frame, array, geometry = self._prepare(frame, self.preprocess)
            watch.lap("preprocess")
            predictions = self._ask(array, geometry, watch)
        else:
            picture = self._before(Picture.of(frame.pixels)) if self._before else Picture.decoded(frame)
            windows = self._windows.of(picture)
            found = [self._see(window.picture, watch) for window in windows]
            frame, predictions = picture.whole, merge(windows, found)
        return frame, self._finished(predictions, frame.pixels, watch)

    def _see(self, view: Picture, watch: Stopwatch) -> List[Prediction]:
        """What the task says of a part of a frame."""
        array, inner = self.preprocess(view.part)
        watch.lap("preprocess")
        return self._ask(array, view.placed(inner), watch)

    def _ask(self, array: np.ndarray, geometry: Geometry, watch: Stopwatch) -> List[Prediction]:
        outputs = self._outputs(array, geometry)
        watch.lap("infer")
        predictions = self._predictions(self._real(outputs), geometry)
        watch.lap("postprocess")
        return predictions

    def _outputs(self, array: np.ndarray, geometry: Geometry) -> Sequence[np.ndarray]:
        return self._feed.taken(self._run(self._feed.given(array, geometry)))

    def _finished(self, predictions: List[Prediction], frame: np.ndarray, watch: Stopwatch) -> List[Prediction]:
        """What the model's own step makes of the task's predictions, and then the models behind it."""
        predictions = self._last(predictions)
        watch.lap("postprocess")
        return cascade.extended(predictions, frame, self._stages, watch) if self._stages else predictions

    def _last(self, predictions: List[Prediction]) -> List[Prediction]:
        return self._after(predictions) if self._after else predictions

    def run(self, places: Sequence[Mapping[str, Any]], data: memoryview, wanted: Sequence[str]) -> arrays.Outputs:
        """The network alone: what lies at ``places`` in ``data`` through it, and the outputs that are wanted.

        Raises ``ModelError`` for inputs that the network does not take, or a wanted output that it does not have.
        """
        return arrays.answer(self.backend.inputs, self.backend.outputs, self._run, places, data, wanted)

    def _prepare(self, picture: Decoded, preprocess: Preprocessor) -> Tuple[Decoded, np.ndarray, Geometry]:
        """The frame, the network's input, and how that lies in the frame."""
        if self._before is None:
            return (picture, *preprocess(picture))
        given = self._before(Picture.of(picture.pixels))
        array, inner = preprocess(given.part)
        return given.whole, array, given.placed(inner)

    @property
    def longest_ms(self) -> float:
        """How long an answer takes at most, by the first ones: with all that the models behind may be shown."""
        return self._warm_up_ms + sum(stage.most * stage.model.longest_ms for stage in self._stages)

    @property
    def digest(self) -> str:
        """Of the model's files, and of those behind it."""
        return parts.joined([networks.digest(self._model), *(stage.model.digest for stage in self._stages)])

    def describe(self) -> Dict[str, Any]:
        """What the model is, as JSON."""
        return {
            **networks.described(self.backend),
            "task": networks.called(self.task),
            "digest": self.digest,
            "labels": len(self.labels.names),
            "load_ms": _ms(self._load_ms / 1e3),
            "warm_up_ms": _ms(self._warm_up_ms / 1e3),
            "longest_ms": _ms(self.longest_ms / 1e3),
            "decoder": str(getattr(self.task, "decoder", "")),
            "recognition": self._recognition,
            "input": [fact._asdict() for fact in self.preprocess.facts],
            "stages": [stage.model.describe() for stage in self._stages],
        }

    def _real(self, outputs: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Quantised outputs as the real numbers they stand for."""
        return [real(array) if real else array for real, array in zip(self._quantised, outputs)]

    def _network(self, model: Mapping[str, Any]) -> Network:
        feed, facts = self._feed, {**modelinfo.beside(self.path), **self.backend.metadata}
        return Network(feed.inputs, feed.outputs, self.labels, facts, model.get("options") or {})

    def _first_run(self, preprocess: Preprocessor) -> Tuple[List[np.ndarray], Geometry]:
        """What the network answers to a made-up picture, so that the first frame pays for nothing but itself."""
        picture = decode.decode(_MADE_UP, "jpeg", None if self._before else preprocess.cover)
        _, array, geometry = self._prepare(picture, preprocess)
        return self._real(self._outputs(array, geometry)), geometry

    def _warm_up_windows(self) -> float:
        """Look at every window of a made-up frame; how long that takes, in ms."""
        pixels = np.full(_LARGE if self._windows.by_size else (480, 640, 3), 127, np.uint8)
        watch = Stopwatch()
        self._answer(_decoded(pixels), watch)
        return sum(watch.timing().values())


def _reporting(run: networks.Run, busy: Callable[[], None]) -> networks.Run:
    """The same network, which says so whenever it has been run."""

    def reported(given: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs = run(given)
        busy()
        return outputs

    return reported


def _stage(given: Mapping[str, Any], busy: Callable[[], None]) -> cascade.Stage:
    settings = {key: value for key, value in given.items() if key != "model"}
    try:
        behind = Session(given["model"], busy)
    except ModelError as error:
        which = os.path.basename(str(given["model"]["file"]))
        raise ModelError(error.code, f"the model behind it, {which}: {error.message}", error.hint) from error
    return cascade.Stage(behind, **{**settings, "classes": frozenset(settings["classes"])})


def _labels(path: Optional[str], backend: Backend, classes: Sequence[str]) -> Labels:
    """Those of a file, of the model's own metadata, or the classes that ``[anomaly]`` names."""
    if path:
        return labels.read(path)
    return labels.of(backend.metadata.get("labels") or [name for name in classes if isinstance(name, str)])


def _predictor(task: Task) -> _Predictor:
    """What the outputs say: a user's task is checked too."""

    def checked(outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        return contracts.predictions(task.predictions(outputs, geometry), networks.called(task))

    return task.predictions if plugins.is_own(type(task)) else checked


def _step(word: str, model: Mapping[str, Any]) -> Optional[_Step]:
    """A model's own step, whose answers are checked; None where it has none."""
    name = model.get(word)
    if not name:
        return None
    call, who = plugins.step(word, name, model.get(f"{word}_options") or {}), custom.shown(name)
    check = {"preprocess": contracts.picture, "postprocess": contracts.predictions}[word]
    return lambda given: check(call(given), who)


def _decoded(pixels: np.ndarray) -> Decoded:
    pixels = np.ascontiguousarray(pixels)
    return Decoded(pixels, pixels.shape[1], pixels.shape[0])


def _dequantise(tensor: TensorInfo) -> Any:
    if tensor.scale is None or tensor.kind not in ("i", "u"):
        return None
    scale, zero_point = np.float32(tensor.scale), np.float32(tensor.zero_point)
    return lambda array: (array.astype(np.float32) - zero_point) * scale


def _snapshot(pixels: np.ndarray, predictions: Sequence[Prediction], wanted: Optional[Mapping[str, Any]]) -> bytes:
    if not wanted:
        return b""
    return draw.encode(draw.annotate(pixels, predictions, wanted.get("max_side")), wanted.get("quality", 80))


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
