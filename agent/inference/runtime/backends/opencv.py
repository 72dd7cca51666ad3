"""Networks run by OpenCV's own ``dnn`` module: what is there when nothing else can be installed.

OpenCV does not say what a network's inputs are.  An ONNX file and Caffe's description are therefore read for
them; for Darknet, TensorFlow and Torch files the manifest's ``[input]`` must say width, height and layout, and
outputs are known only after a run.  Which formats are read depends on OpenCV's version.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, List, Mapping, Sequence, Tuple

import cv2
import numpy as np

from agent.inference.runtime import filemeta, onnxfile, parts, prototxt
from agent.inference.runtime.backends.settings import Settings
from agent.inference.runtime.base import Backend, TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError

__all__ = ["OpenCV"]

FORMATS = (".onnx", ".pb", ".caffemodel", ".weights", ".t7", ".net")

_UNKNOWN = TensorInfo("", (-1, -1, -1, -1), "float32")


class OpenCV(Backend):
    """A network for ``cv2.dnn``; ``backend_options``: ``config``, the file beside the weights (``parts.py``)."""

    name = "opencv"

    @classmethod
    def version(cls) -> str:
        """OpenCV's version."""
        return str(cv2.__version__)

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Whether the file's name is one of the formats'."""
        return path.endswith(FORMATS) and os.path.isfile(path)

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        settings = Settings(options)
        config = parts.beside(path, settings.text("config") or "")
        settings.done()
        if path.endswith(".weights") and not config:
            raise ModelError("model-incomplete", f"{path} goes with a .cfg, which is not there", "put it beside it")
        cv2.setNumThreads(threads)
        _check_head(path)
        self.inputs, self.outputs = [_UNKNOWN], []
        if path.endswith(".onnx"):
            file = onnxfile.read(path)
            self.inputs, self.outputs = list(file.inputs), list(file.outputs)
            self.metadata = filemeta.properties(file.properties)
        elif path.endswith(".caffemodel"):
            self.inputs = [replace(_UNKNOWN, shape=prototxt.picture(config))]
        try:
            self._net = cv2.dnn.readNet(path, config)
            self._names = list(self._net.getUnconnectedOutLayersNames())
            self.accelerator = _place(self._net, accelerator)
        except cv2.error as error:
            hint = f"is the file whole, and does OpenCV {cv2.__version__} read its format?"
            raise ModelError("model-broken", f"{path} cannot be loaded: {_said(error)}", hint) from error
        if self._net.empty():
            raise ModelError("model-broken", f"{path} holds no network", "copy the file again")
        self._order = _order([tensor.name for tensor in self.outputs], self._names)
        if not self.outputs:
            self.outputs = [TensorInfo(name, (-1,), "float32") for name in self._names]

    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """One inference; raises ``ModelError`` for arrays that are not what ``inputs`` describes."""
        try:
            for tensor, array in zip(self.inputs, arrays):
                self._net.setInput(array, tensor.name)
            outputs = self._net.forward(self._names)
        except cv2.error as error:
            raise ModelError("inference-failed", f"the model refuses its input: {_said(error)}") from error
        return [np.array(outputs[place]) for place in self._order]


def _check_head(path: str) -> None:
    """OpenCV 5 crashes on a TensorFlow file that is none: a graph begins with its first node."""
    if path.endswith(".pb"):
        with open(path, "rb") as file:
            if file.read(1) != b"\n":
                raise ModelError("model-broken", f"{path} is no TensorFlow graph", "copy the file again")


def _place(net: Any, accelerator: str) -> str:
    """Choose what runs the network; ``auto`` takes a CUDA device where this OpenCV can use one."""
    cuda = cv2.cuda.getCudaEnabledDeviceCount() > 0
    if accelerator == "cpu" or (accelerator == "auto" and not cuda):
        return "cpu"
    if accelerator in ("auto", "gpu") and cuda:
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
        return "gpu"
    raise UnavailableError(
        "accelerator-unavailable",
        f"this OpenCV cannot run networks on {accelerator!r}",
        hint="build OpenCV with CUDA for 'gpu', or take accelerator = 'cpu'",
    )


def _said(error: cv2.error) -> str:
    """OpenCV's words, which come in lines."""
    return " ".join((error.err or str(error)).split())


def _order(listed: Sequence[str], names: Sequence[str]) -> Tuple[int, ...]:
    """Where each output that the file lists is among those that OpenCV has, which may name and sort them otherwise."""
    if sorted(listed) == sorted(names):
        return tuple(names.index(name) for name in listed)
    return tuple(range(len(names)))
