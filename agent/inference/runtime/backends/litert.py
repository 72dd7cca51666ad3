"""TFLite models, run by LiteRT or by one of its two older names.

The first that is installed is taken: ``ai-edge-litert`` (kept up, several times faster on quantised
models), ``tflite-runtime`` (the only one for 32-bit ARM), TensorFlow.  All three have the same
``Interpreter``, whose XNNPACK delegate serves the processor; another accelerator is a delegate library.
``set_tensor`` and ``get_tensor`` cost about 30 µs beside an inference of milliseconds; signature runners,
tensor views and LiteRT's newer ``CompiledModel`` measured no faster.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
from importlib import metadata as packages
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import filemeta
from agent.inference.runtime.backends.settings import Settings
from agent.inference.runtime.base import Backend, TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError

__all__ = ["LiteRT"]

RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite", "tensorflow"),
)
DELEGATES: Mapping[str, Tuple[str, ...]] = {
    "edgetpu": ("libedgetpu.so.1",),
    "npu": ("libvx_delegate.so", "libethosu_delegate.so", "libQnnTFLiteDelegate.so"),
    "gpu": ("libtensorflowlite_gpu_delegate.so", "libarmnnDelegate.so"),
}
"""Where the loader finds an accelerator's delegate, unless ``backend_options.delegate`` names it."""

_MAGIC = b"TFL3"
_EDGETPU_OPERATOR = "edgetpu-custom-op"


class LiteRT(Backend):
    """A ``.tflite`` file; ``backend_options``: ``delegate`` (a library) and ``delegate_options`` (its table)."""

    name = "litert"

    @classmethod
    def version(cls) -> str:
        """The version of the package that runs the models."""
        return packages.version(_runtime()[1])

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Whether the file's identifier, or failing that its name, is TFLite's."""
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(8)[4:] == _MAGIC or path.endswith(".tflite")

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        settings = Settings(options)
        library, extra = settings.text("delegate"), settings.mapping("delegate_options")
        settings.done()
        runtime, _ = _runtime()
        if accelerator == "auto" and library is None and _for_edgetpu(path):
            accelerator = "edgetpu"
        self.accelerator, delegates = _delegates(runtime, accelerator, library, extra)
        try:
            self._interpreter = runtime.Interpreter(
                model_path=path, num_threads=threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(path, str(error)) from error
        given, taken = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = [_info(tensor) for tensor in given]
        self.outputs = [_info(tensor) for tensor in taken]
        self.metadata = filemeta.tflite(path)
        self._given = [tensor["index"] for tensor in given]
        self._taken = [tensor["index"] for tensor in taken]
        self._shapes = [tuple(int(side) for side in tensor["shape"]) for tensor in given]

    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """One inference; raises ``ModelError`` for arrays that are not what ``inputs`` describes."""
        if len(arrays) != len(self._given):
            raise ModelError("inference-failed", f"the model has {len(self._given)} inputs and got {len(arrays)}")
        try:
            if any(array.shape != shape for array, shape in zip(arrays, self._shapes)):
                self._resize(arrays)
            for index, array in zip(self._given, arrays):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError("inference-failed", f"the model refuses its input: {error}") from error
        return [self._interpreter.get_tensor(index) for index in self._taken]

    def _resize(self, arrays: Sequence[np.ndarray]) -> None:
        """Settle the dimensions that the file leaves open."""
        for index, array in zip(self._given, arrays):
            self._interpreter.resize_tensor_input(index, array.shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = [array.shape for array in arrays]


def _runtime() -> Tuple[Any, str]:
    """The first of the interpreters that is installed, and the name of its package."""
    for module, package in RUNTIMES:
        try:
            return importlib.import_module(module), package
        except ImportError as error:
            # An installed package that cannot be imported is to be mended, not passed over.
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise UnavailableError("backend-unavailable", f"{package} cannot be imported: {error}") from error
        except (AttributeError, SystemError) as error:
            raise UnavailableError(
                "backend-unavailable",
                f"{package} cannot be imported beside NumPy {np.__version__}: {error}",
                hint="its extension was built for another NumPy: deploy a runtime component, or install numpy<2",
            ) from error
    raise UnavailableError(
        "backend-unavailable",
        "no TFLite runtime is installed",
        hint="pip install ai-edge-litert (on 32-bit ARM: tflite-runtime)",
    )


def _delegates(
    runtime: Any, accelerator: str, library: Optional[str], options: Mapping[str, str]
) -> Tuple[str, List[Any]]:
    """What will run the network, and the delegate for it; ``auto`` takes the processor unless a library is named."""
    if accelerator == "cpu" or (accelerator == "auto" and library is None):
        return "cpu", []
    names = (library,) if library else DELEGATES.get(accelerator, ())
    refusals: List[str] = []
    for name in names:
        try:
            # Loaded here first: the runtimes' own loader complains on the terminal as well when it fails.
            ctypes.CDLL(name).tflite_plugin_create_delegate  # noqa: B018 - looked up
            return "delegate" if accelerator == "auto" else accelerator, [runtime.load_delegate(name, dict(options))]
        except (OSError, ValueError, AttributeError) as error:
            refusals.append(f"{name}: {error}")
    if accelerator == "auto":
        return "cpu", []
    raise UnavailableError(
        "accelerator-unavailable",
        f"no delegate for {accelerator!r} can be loaded ({'; '.join(refusals) or 'none is known'})",
        hint="install the vendor's delegate, name it with backend_options.delegate, or take accelerator = 'cpu'",
    )


def _for_edgetpu(path: str) -> bool:
    """Whether the file was compiled for the Edge TPU and runs nowhere else."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(_EDGETPU_OPERATOR.encode()) >= 0


def _refused(path: str, reason: str) -> ModelError:
    if _EDGETPU_OPERATOR in reason:
        return ModelError("model-unsupported", f"{path} is compiled for the Edge TPU", "take accelerator = 'edgetpu'")
    if "custom op" in reason.lower() or "unresolved" in reason.lower():
        return ModelError("model-unsupported", f"{path}: {reason}", "export it with TFLite's built-in operators only")
    return ModelError("model-broken", f"{path} cannot be loaded: {reason}", "is the file whole, and is it TFLite?")


def _info(tensor: Dict[str, Any]) -> TensorInfo:
    signature = tensor.get("shape_signature")
    shape = signature if signature is not None and len(signature) else tensor["shape"]
    quantisation = tensor["quantization_parameters"]
    scales, zeros = quantisation["scales"], quantisation["zero_points"]
    return TensorInfo(
        tensor["name"],
        tuple(int(side) for side in shape),
        np.dtype(tensor["dtype"]).name,
        float(scales[0]) if len(scales) == 1 else None,
        int(zeros[0]) if len(zeros) == 1 else 0,
    )
