"""What the models of the plane are called, and described as.

A model is called as the plane calls it; one that is deployed also by its component alone (``shop.Cats`` for
``shop.Cats@1.2.0#…``).  Beside the network's own tensors, a model that takes pictures has the input ``image``, BYTES of
the shape [1]: a picture as a file has it, for which the output ``predictions`` is the answer, BYTES of the shape [1]:
JSON as in a result's ``predictions``.  Where the network has tensors of these names, an underscore is added to ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.edgeapi.openinference.tensors import BYTES, DATATYPES
from agent.errors import ModelRefusedError
from agent.inference.values import ModelMetadata, TensorMetadata

__all__ = ["EXTENSIONS", "ServedModel", "find"]

EXTENSIONS: Final = ("binary_tensor_data", "classification")
_PLATFORMS: Final = {
    "onnx": "onnxruntime_onnx", "litert": "tensorflow_tflite", "opencv": "opencv_dnn", "dlr": "tvm_dlr",
}  # fmt: skip
"""By the backend's name: ``<project>_<format>``, as the protocol wants it."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of the plane as clients see it."""

    key: str
    """Its name in the plane."""
    name: str
    """As the client calls it."""
    facts: ModelMetadata

    @property
    def version(self) -> str:
        """Its manifest's version; ``1`` where that says none."""
        return self.facts.version or "1"

    @property
    def picture_input(self) -> str:
        """What the input for pictures is called; empty where the model takes none."""
        return _beside("image", self.facts.inputs) if self.facts.input else ""

    @property
    def predictions_output(self) -> str:
        """What the output for a picture's answer is called."""
        return _beside("predictions", self.facts.outputs)

    def checked(self, version: str) -> ServedModel:
        """The same; raises ``ModelRefusedError`` (``version-unknown``) where a client means another version."""
        if version and version != self.version:
            message = f"the model {self.name!r} has no version {version[:100]!r}"
            raise ModelRefusedError(message, code="version-unknown", hint=f"it is {self.version}")
        return self

    def metadata(self) -> dict[str, Any]:
        """The answer to whoever asks what the model is."""
        backend = self.facts.backend.partition(" ")[0]
        inputs, outputs = _described(self.facts.inputs), _described(self.facts.outputs)
        if self.picture_input:
            inputs.append({"name": self.picture_input, "datatype": BYTES, "shape": [1]})
            outputs.append({"name": self.predictions_output, "datatype": BYTES, "shape": [1]})
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS.get(backend, f"{backend}_model"),
            "inputs": inputs,
            "outputs": outputs,
        }


def find(name: str, keys: Collection[str]) -> str:
    """The name in the plane of the model that a client calls ``name``; the same where there is none.

    >>> find("shop.Cats", ["door", "shop.Cats@1.2.0#ab"])
    'shop.Cats@1.2.0#ab'
    """
    if name in keys:
        return name
    deployed = [key for key in keys if key.partition("@")[0] == name]
    # Of two versions that take turns the newer one was loaded last.
    return deployed[-1] if deployed else name


def _described(tensors: Sequence[TensorMetadata]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "datatype": DATATYPES.get(one.dtype, one.dtype), "shape": list(one.shape)} for one in tensors
    ]


def _beside(name: str, tensors: Iterable[TensorMetadata]) -> str:
    taken = {tensor.name for tensor in tensors}
    while name in taken:
        name += "_"
    return name
