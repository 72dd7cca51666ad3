"""The rpcs of SageMaker Edge Manager's agent, with the status codes that its documentation gives them.

Newer clients name a model by ``handle``, older ones by ``name``: either is taken, and both are said.
"""

from __future__ import annotations

import re
from typing import Any, Final

import grpc

from agent.edgeapi.edge_manager import tensors
from agent.edgeapi.models import LoadedModel, ServedModels
from agent.edgeapi.protos import messages
from agent.edgeapi.server import Interface, StatusError
from agent.edgeapi.sharedmemory import read_system_v
from agent.inference.plane import InferencePlane

__all__ = ["EdgeManagerService"]

_proto = messages("edge_manager")
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_LONGEST_NAME: Final = 256

_LOADING: Final = dict.fromkeys(
    ("model-refused", "backend-unavailable", "config-wrong", "manifest-missing"), grpc.StatusCode.FAILED_PRECONDITION
)


class EdgeManagerService:
    """What the clients of one socket ask for."""

    def __init__(self, models: ServedModels, plane: InferencePlane, *, writable_segments: bool = True) -> None:
        self._models = models
        self._plane = plane
        self._writable = writable_segments

    @property
    def interface(self) -> Interface:
        """The rpcs."""
        rpcs = {
            "Predict": self.predict,
            "LoadModel": self.load_model,
            "UnLoadModel": self.unload_model,
            "ListModels": self.list_models,
            "DescribeModel": self.describe_model,
        }
        return Interface(_proto, rpcs)

    async def predict(self, request: Any) -> Any:
        """Run a network."""
        model = self._models.find(_name(request))
        inputs = self._plane.metadata(model.key).inputs
        answer = await self._plane.infer_tensors(model.key, tensors.given(request.tensors, inputs, self._segment))
        return _proto.PredictResponse(tensors=[tensors.to_tensor(output) for output in answer.outputs])

    async def load_model(self, request: Any) -> Any:
        """Load the package in a folder."""
        model = await self._models.load(_checked(_name(request)), request.url)
        return _proto.LoadModelResponse(model=self._described(model))

    async def unload_model(self, request: Any) -> Any:
        """Unload a model."""
        await self._models.unload(_name(request))
        return _proto.UnLoadModelResponse()

    async def list_models(self, request: Any) -> Any:
        """Every loaded model."""
        del request
        return _proto.ListModelsResponse(models=[self._described(model) for model in self._models])

    async def describe_model(self, request: Any) -> Any:
        """One loaded model."""
        return _proto.DescribeModelResponse(model=self._described(self._models.find(_checked(_name(request)))))

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
        return read_system_v(handle.segment_id, handle.offset, handle.size or size, writable=self._writable)


def _name(request: Any) -> str:
    """Which model is meant; raises ``StatusError`` where two are."""
    if request.name and request.handle and request.name != request.handle:
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, "name and handle are two models", hint="give one of them")
    return str(request.name or request.handle)


def _checked(name: str) -> str:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        hint = "letters, digits and hyphens between them"
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{name[:100]!r} is no name of a model", hint=hint)
    return name
