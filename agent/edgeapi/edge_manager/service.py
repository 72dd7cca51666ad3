"""The rpcs of SageMaker Edge Manager's agent, with the status codes that its documentation gives them.

Newer clients name a model by ``handle``, older ones by ``name``: either is taken, and both are said.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import grpc

from agent.edgeapi.edge_manager import tensors
from agent.edgeapi.edge_manager.capture import request as captures
from agent.edgeapi.edge_manager.capture.capture import Captures
from agent.edgeapi.models import LoadedModel, ServedModels
from agent.edgeapi.protos import messages
from agent.edgeapi.server import CODES, Interface, StatusError
from agent.edgeapi.sharedmemory import ANYBODY, Sharers, read_system_v
from agent.errors import VergeError
from agent.inference.plane import InferencePlane

__all__ = ["EdgeManagerService"]

_proto = messages("edge_manager")
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_LONGEST_NAME: Final = 256

_STATUS: Final = {
    "captures-off": grpc.StatusCode.FAILED_PRECONDITION,
    "buffer-full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "capture-exists": grpc.StatusCode.ALREADY_EXISTS,
    "out-of-memory": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "disk-full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "model-broken": grpc.StatusCode.INTERNAL,
    "worker-crashed": grpc.StatusCode.INTERNAL,
    "worker-hung": grpc.StatusCode.INTERNAL,
}


class EdgeManagerService:
    """What the clients of one socket ask for; ``changed`` is called when models come and go."""

    def __init__(
        self, models: ServedModels, plane: InferencePlane, capture: Captures, *,
        writable_segments: bool = True, sharers: Sharers = ANYBODY, most_bytes: int = 1 << 27,
        changed: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._models = models
        self._plane = plane
        self._capture = capture
        self._writable = writable_segments
        self._sharers = sharers
        self._most_bytes = most_bytes
        self._changed = changed
        self._clock = clock
        self.predictions: Counter[str] = Counter()
        """By model, since it was loaded."""

    @property
    def interface(self) -> Interface:
        """The rpcs."""
        rpcs = {
            "Predict": self.predict,
            "LoadModel": self.load_model,
            "UnLoadModel": self.unload_model,
            "ListModels": self.list_models,
            "DescribeModel": self.describe_model,
            "CaptureData": self.capture_data,
            "GetCaptureDataStatus": self.capture_data_status,
        }
        return Interface(_proto, rpcs, _STATUS)

    # -- models ------------------------------------------------------------------------------------------------------

    async def predict(self, request: Any) -> Any:
        """Run a network."""
        model = self._models.find(_name(request))
        inputs = self._plane.metadata(model.key).inputs
        answer = await self._plane.infer_tensors(model.key, tensors.given(request.tensors, inputs, self._segment))
        if model in self._models:
            self.predictions[model.name] += 1
        return _proto.PredictResponse(tensors=[tensors.to_tensor(output) for output in answer.outputs])

    async def load_model(self, request: Any) -> Any:
        """Load the package in a folder."""
        name = _checked(_name(request))
        try:
            model = await self._models.load(name, request.url)
        except VergeError as error:
            # Whatever keeps a package from being loaded and is named nowhere else is the package's.
            codes = {**CODES, "out-of-memory": _STATUS["out-of-memory"]}
            status = codes.get(error.code, grpc.StatusCode.FAILED_PRECONDITION)
            raise StatusError(status, error.message, hint=error.hint) from error
        self._changed()
        return _proto.LoadModelResponse(model=self._described(model))

    async def unload_model(self, request: Any) -> Any:
        """Unload a model."""
        name = _name(request)
        await self._models.unload(name)
        self.predictions.pop(name, None)
        self._changed()
        return _proto.UnLoadModelResponse()

    async def list_models(self, request: Any) -> Any:
        """Every loaded model."""
        del request
        return _proto.ListModelsResponse(models=[self._described(model) for model in self._models])

    async def describe_model(self, request: Any) -> Any:
        """One loaded model."""
        return _proto.DescribeModelResponse(model=self._described(self._models.find(_checked(_name(request)))))

    # -- captures ----------------------------------------------------------------------------------------------------

    async def capture_data(self, request: Any) -> Any:
        """Capture tensors: they are in the spool when this answers."""
        name = _one(request.model_name, request.model_handle)
        facts = self._models.find(name).spec.manifest
        made = captures.record(request, (facts.name or name, facts.version), name, self._clock(), self._segment)
        await self._capture.take(made)
        return _proto.CaptureDataResponse()

    async def capture_data_status(self, request: Any) -> Any:
        """What became of a capture; of an unknown one that it was not found, which clients do not have to catch."""
        state = await self._capture.state(request.capture_id)
        return _proto.GetCaptureDataStatusResponse(status=int(state))

    def _described(self, model: LoadedModel) -> Any:
        facts = self._plane.metadata(model.key)
        return _proto.Model(
            url=model.url,
            name=model.name,
            handle=model.name,
            input_tensor_metadatas=tensors.metadatas(facts.inputs),
            output_tensor_metadatas=tensors.metadatas(facts.outputs),
        )

    def _segment(self, handle: Any, size: int) -> bytes:
        wanted = handle.size or size
        if wanted > self._most_bytes:
            what = f"{wanted} bytes of shared memory are asked for, the limit is {self._most_bytes}"
            raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, what)
        return read_system_v(handle.segment_id, handle.offset, wanted, writable=self._writable, sharers=self._sharers)


def _name(request: Any) -> str:
    """Which model is meant; raises ``StatusError`` where two are."""
    return _one(request.name, request.handle)


def _one(name: str, handle: str) -> str:
    if name and handle and name != handle:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, "name and handle are two models", hint="give one of them")
    return name or handle


def _checked(name: str) -> str:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        hint = "letters, digits and hyphens between them"
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{name[:100]!r} is no name of a model", hint=hint)
    return name
