"""The rpcs of Lookout for Vision's edge agent, with the status codes that its documentation gives them."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

import grpc

from agent.edgeapi.lookout import answers, bitmaps
from agent.edgeapi.lookout.models import AnomalyModels
from agent.edgeapi.lookout.states import ModelState
from agent.edgeapi.protos import messages
from agent.edgeapi.server import Interface, StatusError
from agent.edgeapi.sharedmemory import ANYBODY, Sharers, check_posix, read_posix, write_posix

__all__ = ["LookoutService"]

_proto = messages("lookout")
_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
"""As components are called."""
_CODES: Final = {
    "bitmap-wrong": grpc.StatusCode.INVALID_ARGUMENT,
    "undecodable": grpc.StatusCode.INVALID_ARGUMENT,
    "quarantined": grpc.StatusCode.INVALID_ARGUMENT,
    "model-missing": grpc.StatusCode.NOT_FOUND,
    "model-state-wrong": grpc.StatusCode.FAILED_PRECONDITION,
    "model-broken": grpc.StatusCode.FAILED_PRECONDITION,
    "model-not-loaded": grpc.StatusCode.FAILED_PRECONDITION,
    "model-unloaded": grpc.StatusCode.FAILED_PRECONDITION,
    "no-verdict": grpc.StatusCode.FAILED_PRECONDITION,
    "out-of-memory": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "worker-crashed": grpc.StatusCode.INTERNAL,
    "worker-hung": grpc.StatusCode.INTERNAL,
}


class LookoutService:
    """What the clients of one socket ask for."""

    def __init__(self, models: AnomalyModels, sharers: Sharers = ANYBODY) -> None:
        self._models = models
        self._sharers = sharers

    @property
    def interface(self) -> Interface:
        """The rpcs."""
        rpcs = {
            "DetectAnomalies": self.detect_anomalies,
            "StartModel": self.start_model,
            "StopModel": self.stop_model,
            "ListModels": self.list_models,
            "DescribeModel": self.describe_model,
        }
        return Interface(_proto, rpcs, _CODES)

    async def detect_anomalies(self, request: Any) -> Any:
        """Judge a picture; the mask goes where the client wants it."""
        name = _name(request)
        picture = bitmaps.picture(request.bitmap, partial(read_posix, sharers=self._sharers))
        place = bitmaps.mask_place(request.anomaly_mask_params, len(picture.data))
        if place is not None:  # found out before the model is bothered
            check_posix(place.name, place.offset, len(picture.data), self._sharers)
        answer = await self._models.detect(name, picture)
        if place is not None and answer.painting is not None:
            write_posix(place.name, place.offset, len(picture.data), answer.painting.data, self._sharers)
        return answers.response(answer, place)

    async def start_model(self, request: Any) -> Any:
        """Begin to load a model."""
        return _proto.StartModelResponse(status=self._models.start(_name(request)))

    async def stop_model(self, request: Any) -> Any:
        """Unload a model."""
        return _proto.StopModelResponse(status=await self._models.stop(_name(request)))

    async def list_models(self, request: Any) -> Any:
        """Every model."""
        del request
        listed = [_described(_proto.ModelMetadata, name, state) for name, state in self._models.states.items()]
        return _proto.ListModelsResponse(models=listed)

    async def describe_model(self, request: Any) -> Any:
        """One model."""
        name = _name(request)
        described = _described(_proto.ModelDescription, name, self._models.state(name))
        return _proto.DescribeModelResponse(model_description=described)


def _described(message: Any, name: str, state: ModelState) -> Any:
    return message(model_component=name, status=state.status, status_message=state.message)


def _name(request: Any) -> str:
    name = str(request.model_component)
    if not _NAME.fullmatch(name):
        hint = "letters, digits, hyphens, dots and underscores, as components are called"
        raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{name[:100]!r} is no name of a component", hint=hint)
    return name
