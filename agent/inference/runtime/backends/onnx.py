"""ONNX models, run by ONNX Runtime.

One operator at a time (``inter_op`` 1) with ``threads`` threads each, because parallelism comes from
workers.  Idle threads sleep instead of spinning: other cameras' workers want the cores.
"""

from __future__ import annotations

import importlib
import os
import platform
from typing import Any, List, Mapping, Sequence

import numpy as np

from agent.inference.runtime import filemeta, parts
from agent.inference.runtime.backends.settings import Settings
from agent.inference.runtime.base import Backend, TensorInfo
from agent.inference.runtime.errors import ModelError, UnavailableError
from agent.inference.runtime.user import REACHED

__all__ = ["Onnx"]

PROVIDERS: Mapping[str, Sequence[str]] = {
    "cpu": (),
    "gpu": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "MIGraphXExecutionProvider",
        "DmlExecutionProvider",
        "CoreMLExecutionProvider",
    ),
    "npu": (
        "QNNExecutionProvider",
        "VitisAIExecutionProvider",
        "RknpuExecutionProvider",
        "VSINPUExecutionProvider",
        "CANNExecutionProvider",
    ),
    "openvino": ("OpenVINOExecutionProvider",),
    "xnnpack": ("XnnpackExecutionProvider",),
}
"""Which of ONNX Runtime's providers serve an accelerator, best first."""

_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_TYPES = {"float": "float32", "double": "float64"}

_NEWER = "it was exported for a newer ONNX: update onnxruntime, or export the model for an older opset"
_UNKNOWN = "export it with ONNX's own operators only, or update onnxruntime"
_UNSUPPORTED = (
    ("till opset", _NEWER),
    ("Unsupported model IR version", _NEWER),
    ("is not a registered function/op", _UNKNOWN),
    ("No Op registered for", _UNKNOWN),
    ("Could not find an implementation", _UNKNOWN),
)
"""What ONNX Runtime says of whole files that it cannot run, and what helps."""


class Onnx(Backend):
    """An ``.onnx`` or ``.ort`` file; ``backend_options``: ``provider_options``, the chosen provider's own table."""

    name = "onnx"

    @classmethod
    def version(cls) -> str:
        """ONNX Runtime's version."""
        return str(_runtime().__version__)

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Whether the file's name is ONNX's; its first bytes say nothing."""
        return path.endswith((".onnx", ".ort")) and os.path.isfile(path)

    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        settings = Settings(options)
        extra = settings.mapping("provider_options")
        settings.done()
        runtime = _runtime()
        providers = _providers(runtime, accelerator)
        how = _session_options(runtime, threads)
        weights = _out_of_reach(path)  # alive until the session is made, which copies what it needs
        if weights and hasattr(how, "add_external_initializers_from_files_in_memory"):
            sizes = [content.size for content in weights.values()]
            how.add_external_initializers_from_files_in_memory(list(weights), list(weights.values()), sizes)
        try:
            self._session = runtime.InferenceSession(
                path,
                how,
                providers=[*providers, _CPU],
                provider_options=[*(extra for _ in providers), {}],
            )
        # ONNX Runtime's errors have no common base of their own.
        except Exception as error:
            raise _refused(path, str(error)) from error
        self.accelerator = _accelerator(self._session.get_providers()[0])
        self.inputs = [_info(tensor) for tensor in self._session.get_inputs()]
        self.outputs = [_info(tensor) for tensor in self._session.get_outputs()]
        model = self._session.get_modelmeta()
        self.metadata = filemeta.properties(model.custom_metadata_map, model.description)
        self._names = [tensor.name for tensor in self.inputs]

    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """One inference; raises ``ModelError`` for arrays that are not what ``inputs`` describes."""
        try:
            return list(self._session.run(None, dict(zip(self._names, arrays))))
        except Exception as error:
            raise ModelError("inference-failed", f"the model refuses its input: {error}") from error


def _refused(path: str, reason: str) -> ModelError:
    """Why ONNX Runtime does not load a file, in its own words, and what to do about it."""
    reason = " ".join(reason.split())
    for words, hint in _UNSUPPORTED:
        if words in reason:
            return ModelError("model-unsupported", f"{path} cannot be loaded: {reason}", hint)
    return ModelError("model-broken", f"{path} cannot be loaded: {reason}", "is the file whole, and is it ONNX?")


def _runtime() -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UnavailableError(
            "backend-unavailable", f"ONNX Runtime cannot be imported: {error}", hint="pip install 'verge-edge[onnx]'"
        ) from error
    runtime.disable_telemetry_events()
    runtime.set_default_logger_severity(_ERRORS_ONLY)
    return runtime


def _multiplies_bytes_exactly() -> bool:
    """Whether the processor is no x86 or has VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "vnni" in file.read()
    except OSError:
        return False


def _session_options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not _multiplies_bytes_exactly():
        # Without VNNI, x86 adds pairs of products of 8-bit numbers in 16 bits and cuts what does not fit: answers of
        # quantised networks would differ visibly.  This takes a slower way that is exact.
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _out_of_reach(path: str) -> Mapping[str, np.ndarray]:
    """The contents, by name, of the files beside a model that ONNX Runtime would not get to itself.

    It looks up where they really lie, and a worker that runs as another user may not be let through to there
    (``user.py``).  Its older releases cannot be helped.
    """
    others = parts.of(path)[1:] if path.startswith(REACHED) else []
    return {os.path.relpath(other, os.path.dirname(path)): np.memmap(other, np.uint8, "r") for other in others}


def _providers(runtime: Any, accelerator: str) -> List[str]:
    """The providers to try before the processor; ``auto`` takes what this build of ONNX Runtime has."""
    here = runtime.get_available_providers()
    if accelerator == "auto":
        return [name for names in PROVIDERS.values() for name in names if name in here]
    found = [name for name in PROVIDERS.get(accelerator, ()) if name in here]
    if not found and accelerator != "cpu":
        raise UnavailableError(
            "accelerator-unavailable",
            f"this ONNX Runtime has no provider for {accelerator!r} (it has {', '.join(here)})",
            hint=f"install a build of ONNX Runtime with one, or take another accelerator: {', '.join(PROVIDERS)}",
        )
    return found


def _accelerator(provider: str) -> str:
    return next((name for name, providers in PROVIDERS.items() if provider in providers), "cpu")


def _info(tensor: Any) -> TensorInfo:
    kind = str(tensor.type)
    if kind.startswith("tensor("):  # and no sequence or map of them
        kind = kind[len("tensor(") : -1]
    shape = tuple(side if isinstance(side, int) and side > 0 else -1 for side in tensor.shape or ())
    return TensorInfo(tensor.name, shape, _TYPES.get(kind, kind))
