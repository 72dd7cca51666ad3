"""Live, ready, metadata, infer: what every way in asks, and the one door answers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from agent import __version__
from agent.config.streams import FrameLimits
from agent.edgeapi.openinference import models
from agent.edgeapi.openinference.models import EXTENSIONS, ServedModel
from agent.edgeapi.openinference.tensors import (
    BYTES,
    DATATYPES,
    DTYPES_OF,
    InferRequest,
    InferResponse,
    InferTensor,
    WantedOutput,
    elements,
    numbers,
    packed_elements,
    size_of,
    wrong,
)
from agent.errors import ModelRefusedError
from agent.frames.headers import encoding_of
from agent.frames.recognise import recognise
from agent.inference.plane import InferencePlane
from agent.inference.tensors import RawTensor
from agent.inference.values import TensorMetadata

__all__ = ["OpenInference"]

_LONGEST_NAME: Final = 1024
_encode: Final = msgspec.json.Encoder().encode


class OpenInference:
    """The protocol's answers, over the models of a plane."""

    def __init__(self, plane: InferencePlane, limits: FrameLimits | None = None) -> None:
        self._plane = plane
        self._limits = limits or FrameLimits()

    def metadata(self) -> dict[str, Any]:
        """What serves."""
        return {"name": "verge", "version": __version__, "extensions": list(EXTENSIONS)}

    def ready(self) -> bool:
        """Whether every model can answer now."""
        return all(map(self._plane.ready, self._plane.models))

    def model(self, name: str, version: str = "") -> ServedModel:
        """The model that a client means.

        Raises ``ModelRefusedError`` (``model-not-loaded``, ``version-unknown``), ``WorkerLostError`` for a broken one.
        """
        if len(name) > _LONGEST_NAME:
            raise ModelRefusedError(f"no model has a name of {len(name)} letters", code="model-not-loaded")
        key = models.find(name, self._plane.models)
        return ServedModel(key, name, self._plane.metadata(key)).checked(version)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model can answer now; raises as ``model``."""
        return self._plane.ready(self.model(name, version).key)

    @property
    def models(self) -> tuple[str, ...]:
        """What the models are called: a deployed one by its component."""
        return tuple(dict.fromkeys(key.partition("@")[0] for key in self._plane.models))

    async def infer(self, name: str, version: str, request: InferRequest) -> InferResponse:
        """Have a model answer; raises as ``model`` and the plane do, and for what the model does not take."""
        model = self.model(name, version)
        inputs = request.inputs if request.whole is None else (_whole(request.whole, model),)
        if len(inputs) == 1 and inputs[0].datatype == BYTES:
            outputs = [await self._predictions(model, inputs[0], request.outputs)]
        else:
            outputs = await self._outputs(model, inputs, request.outputs)
        return InferResponse(name, model.version, tuple(outputs), request.id)

    async def _predictions(self, model: ServedModel, given: InferTensor, wanted: Sequence[WantedOutput]) -> InferTensor:
        if not model.picture_input or given.name != model.picture_input:
            raise wrong(f"the model has no input {given.name!r} of BYTES", _listed(model))
        name = model.predictions_output
        if any(output.name != name or output.classes for output in wanted):
            raise wrong(f"a picture is answered with {name!r} alone", "ask for it alone, or for no output by name")
        pictures = list(islice(elements(given.data), 2))
        if {*given.shape} - {1} or len(pictures) != 1:
            raise wrong(f"the input {given.name!r} is given as {list(given.shape)}, and is one element", "[1]")
        picture = recognise(bytes(pictures[0]), None, self._limits)
        answer = await self._plane.infer(model.key, picture, label="open-inference")
        return InferTensor(name, BYTES, (1,), packed_elements([_encode(answer.predictions)]))

    async def _outputs(
        self, model: ServedModel, inputs: Iterable[InferTensor], wanted: Sequence[WantedOutput]
    ) -> list[InferTensor]:
        raw = [_raw(one, model) for one in inputs]
        names = {output.name: output.classes for output in wanted}
        answer = await self._plane.infer_tensors(model.key, raw, outputs=tuple(names), label="open-inference")
        return [_output(output, names.get(output.name, 0)) for output in answer.outputs]


def _whole(content: bytes | memoryview, model: ServedModel) -> InferTensor:
    """The one input, of which only the data is given: the network's, or a picture as a file has it."""
    inputs = model.facts.inputs
    only = inputs[0] if len(inputs) == 1 else None
    shape = _filled(only, len(content)) if only else None
    is_exact = only is not None and -1 not in only.shape and shape is not None
    if model.picture_input and not is_exact and encoding_of(bytes(content[:64])):
        return InferTensor(model.picture_input, BYTES, (1,), packed_elements([bytes(content)]))
    if only is None or shape is None:
        raise wrong(f"{len(content)} bytes without a header are no input of the model", _listed(model))
    return InferTensor(only.name, DATATYPES[only.dtype], shape, content)


def _filled(tensor: TensorMetadata, length: int) -> tuple[int, ...] | None:
    """The shape of a tensor with so many bytes; None where they do not fill it, or more than one side is open."""
    known = size_of(DATATYPES[tensor.dtype], (side for side in tensor.shape if side != -1)) or 1
    open_side, rest = divmod(length, known)
    if rest or not open_side or tensor.shape.count(-1) > 1 or (-1 not in tensor.shape and open_side != 1):
        return None
    return tuple(open_side if side == -1 else side for side in tensor.shape)


def _raw(given: InferTensor, model: ServedModel) -> RawTensor:
    dtype = DTYPES_OF.get(given.datatype)
    if dtype is None:
        raise wrong(f"the input {given.name!r} is of {given.datatype[:40]!r}", _listed(model))
    return RawTensor(given.name, dtype, given.shape, given.data)


def _output(output: RawTensor, classes: int) -> InferTensor:
    datatype = DATATYPES[output.dtype]
    if not classes:
        return InferTensor(output.name, datatype, output.shape, output.data)
    values = numbers(datatype, output.data)
    # The first side is the batch's where there are others.
    batch = output.shape[:1] if len(output.shape) > 1 else ()
    length = max(1, len(values) // max(1, *batch, 1))
    best = [line for at in range(0, len(values), length) for line in _best(values[at : at + length], classes)]
    return InferTensor(output.name, BYTES, (*batch, min(classes, length)), packed_elements(best))


def _best(scores: Sequence[Any], classes: int) -> list[bytes]:
    """The best as ``score:index``, best first."""
    order = heapq.nlargest(classes, range(len(scores)), key=scores.__getitem__)
    return [f"{scores[index]:f}:{index}".encode() for index in order]


def _listed(model: ServedModel) -> str:
    return "it takes " + ", ".join(
        f"{one['name']} ({one['datatype']} {one['shape']})" for one in model.metadata()["inputs"]
    )
