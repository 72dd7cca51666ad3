"""Models compiled by SageMaker Neo, TVM or Treelite, run by libdlr.

``dlr`` 1.6.0 is the last release on the index that brings libdlr.so (``dlr_library.py``).  A model is a folder
(``dlr_folder.py``).  libdlr reads whatever it is given and answers with whatever is in memory: an input that is
missing keeps its last value, of shapes only the number of elements is compared.  So everything is checked here.
One instance serves one thread, which a worker is.
"""

from __future__ import annotations

import os
from typing import Any, List, Mapping, NoReturn, Optional, Sequence

import numpy as np

from agent.inference.runtime.backends import dlr_folder
from agent.inference.runtime.backends.dlr_folder import RUNTIME, Folder
from agent.inference.runtime.backends.dlr_library import DlrNetwork, Library, LibraryError, hushed, installed
from agent.inference.runtime.backends.settings import Settings
from agent.inference.runtime.base import Backend, TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError

__all__ = ["Dlr"]

DEVICES: Mapping[str, int] = {"cpu": 1, "gpu": 2, "opencl": 4}
"""What libdlr runs a model on, by its own numbers."""
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Dlr(Backend):
    """A compiled model's folder; ``backend_options``: ``use_model_libdlr`` (the runtime that lies in the folder)."""

    name = "dlr"
    _own: Optional[Library] = None

    @classmethod
    def version(cls) -> str:
        """The version of libdlr."""
        return (cls._own or installed()).version

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Whether the path is a folder with a compiled model's files."""
        return dlr_folder.is_model(path)

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        settings = Settings(options)
        own = settings.flag("use_model_libdlr") or False
        settings.done()
        if not os.path.isdir(path):
            raise ModelError("model-broken", f"{path} is no folder", "name the folder that holds the compiled model")
        # Read at the first run.  Pinned threads, which are the default, would sit on those of other workers.
        os.environ.update(TVM_NUM_THREADS=str(threads), TVM_BIND_THREADS="0")
        try:
            folder = dlr_folder.read(path)
            self.accelerator = _device(folder, accelerator)
            with folder.staged(runtime=own) as stage:
                library = _brought(stage) if own else installed()
                Dlr._own = library if own else None
                self._network = _load(folder, stage, library, self.accelerator)
        except OSError as error:
            hint = "libdlr gets a copy of its own in the temporary folder: can all be read, and is there room?"
            raise ModelError("model-unreadable", f"{path} cannot be staged: {error}", hint) from error
        with hushed():
            self.inputs = _inputs(folder, self._network)
            self.outputs = _outputs(folder, self._network)
        for tensor in (*self.inputs, *self.outputs):
            _check_type(path, tensor)
        self.metadata = _convention(self.inputs)

    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """One inference; raises ``ModelError`` for arrays that are not what ``inputs`` describes."""
        if len(arrays) != len(self.inputs):
            _reject(f"the model has {len(self.inputs)} inputs and got {len(arrays)}")
        for tensor, array in zip(self.inputs, arrays):
            if array.dtype.name != tensor.dtype or not _fits(array.shape, tensor.shape):
                _reject(
                    f"its input {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}"
                    f" and got {array.dtype.name} {list(array.shape)}"
                )
        given = {tensor.name: np.ascontiguousarray(array) for tensor, array in zip(self.inputs, arrays)}
        try:
            return self._network.run(given, [tensor.dtype for tensor in self.outputs])
        except LibraryError as error:
            raise ModelError("inference-failed", f"the model failed: {error}") from error


def _brought(stage: str) -> Library:
    """The runtime that came with the model."""
    try:
        return Library(os.path.join(stage, RUNTIME))
    except (OSError, AttributeError, LibraryError) as error:
        hint = "leave use_model_libdlr out to take the installed one"
        reason = str(error).replace(f"{stage}/{RUNTIME}: ", "")
        raise ModelError("model-broken", f"the model's {RUNTIME} cannot be loaded: {reason}", hint) from error


def _load(folder: Folder, stage: str, library: Library, device: str) -> DlrNetwork:
    reason = library.trial(stage, DEVICES[device])
    if reason is None:
        try:
            with hushed():
                return DlrNetwork(library, stage, DEVICES[device])
        except LibraryError as error:
            reason = str(error)
    if device == "cpu":
        hint = "is the folder whole? copy it again"
        raise ModelError("model-broken", f"{folder.path} cannot be loaded: {reason}", hint)
    raise UnavailableError(
        "accelerator-unavailable",
        f"{folder.path} is to run on {device!r}, which this libdlr does not serve: {reason}",
        hint="take a model compiled for the cpu, or the runtime that came with it: use_model_libdlr = true",
    )


def _device(folder: Folder, accelerator: str) -> str:
    """What is to run the model: what it was compiled for, where that is known."""
    device = folder.device or ("cpu" if accelerator == "auto" else accelerator)
    if device in DEVICES and accelerator in ("auto", device):
        return device
    compiled = f"is compiled for {folder.device!r}" if folder.device else "is a compiled model"
    raise UnavailableError(
        "accelerator-unavailable",
        f"{folder.path} {compiled} and cannot run on {accelerator!r}; libdlr serves {', '.join(DEVICES)}",
        hint="take accelerator = 'auto' and a model that was compiled for this device, or for the cpu",
    )


def _inputs(folder: Folder, network: DlrNetwork) -> List[TensorInfo]:
    """The inputs as the graph lists them, which libdlr sorts by name and mistakes for the weights before them."""
    inputs = network.inputs()
    names = {tensor.name for tensor in inputs}
    return folder.arguments(names) or [tensor for tensor in folder.tensors("Inputs") if tensor.name in names] or inputs


def _convention(inputs: Sequence[TensorInfo]) -> Mapping[str, Any]:
    """How the picture is normalised, which no compiled model says; a manifest's ``input`` goes before it.

    MXNet's models call their input ``data`` and have its channels first; those of GluonCV, which Neo's guides compile,
    were trained on pixels normalised by ImageNet's statistics.
    """
    first = inputs[0] if inputs else None
    if first is None or (first.name, first.dtype, first.shape[1:2]) != ("data", "float32", (3,)):
        return {}
    return {"mean": _IMAGENET_MEAN, "std": _IMAGENET_STD}


def _outputs(folder: Folder, network: DlrNetwork) -> List[TensorInfo]:
    """The outputs; those of a dynamic graph have shapes only after a run, and are as the metadata lists them."""
    return folder.tensors("Outputs") if folder.kind == "relayvm" else network.outputs()


def _check_type(path: str, tensor: TensorInfo) -> None:
    try:
        np.dtype(tensor.dtype)
    except TypeError as error:
        raise ModelError(
            "model-unsupported",
            f"{path}: {tensor.name!r} holds {tensor.dtype}",
            hint="compile the model for inputs and outputs of plain numbers",
        ) from error


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(side in (-1, given) for given, side in zip(shape, wanted))


def _reject(what: str) -> NoReturn:
    raise ModelError("inference-failed", what, "check the manifest's [input]")
