"""Which packages go together: the known-good combinations of each family, best first.

What each needs was read from the wheels' own metadata and tried: OpenCV 5 and 4.12 ask for NumPy 2, wheels of
tflite-runtime were built against NumPy 1 and end with Python 3.11, dlr 1.6.0 is the last with its library in it.
A worker decodes pictures with OpenCV, so every combination has it.  Python's bounds and the machines hold for the
public index; in a folder of wheels, what their names say holds instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["FAMILIES", "Combination"]

_X86, _ARM64, _ARM32 = "x86_64", "aarch64", "armv7l"


@dataclass(frozen=True, slots=True)
class Combination:
    """Packages that work together."""

    name: str
    requirements: tuple[str, ...]
    machines: frozenset[str]
    oldest: tuple[int, int] = (3, 9)
    newest: tuple[int, int] | None = None
    wants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Per machine, the processor's flag without which it is tried last."""


_AVX = MappingProxyType({_X86: "avx"})
_NUMPY_2 = ("numpy>=2", "opencv-python-headless>=4.12")
_NUMPY_1 = ("numpy>=1.23,<2", "opencv-python-headless>=4.5,<4.12")
_WIDE = frozenset({_X86, _ARM64})

FAMILIES: Mapping[str, tuple[Combination, ...]] = MappingProxyType({
    "litert": (
        Combination("ai-edge-litert 2 + numpy 2", ("ai-edge-litert>=2", *_NUMPY_2), _WIDE, wants=_AVX),
        Combination("ai-edge-litert 1 + numpy 1.26", ("ai-edge-litert>=1,<2", *_NUMPY_1), _WIDE, newest=(3, 12),
                    wants=_AVX),
        Combination("tflite-runtime 2.14 + numpy 1.26", ("tflite-runtime>=2.5,<3", *_NUMPY_1), _WIDE | {_ARM32},
                    newest=(3, 11)),
    ),
    "onnx": (
        Combination("onnxruntime + numpy 2", ("onnxruntime>=1.19", *_NUMPY_2), _WIDE),
        Combination("onnxruntime 1.16 + numpy 1.26", ("onnxruntime>=1.14,<1.19", *_NUMPY_1), _WIDE, newest=(3, 12)),
    ),
    "opencv": (
        Combination("opencv + numpy 2", _NUMPY_2, _WIDE | {_ARM32}),
        Combination("opencv 4.10 + numpy 1.26", _NUMPY_1, _WIDE | {_ARM32}, newest=(3, 12)),
    ),
    "dlr": (
        Combination("dlr 1.6.0 + numpy 2", ("dlr==1.6.0", *_NUMPY_2), frozenset({_X86})),
        Combination("dlr 1.6.0 + numpy 1.26", ("dlr==1.6.0", *_NUMPY_1), frozenset({_X86}), newest=(3, 12)),
    ),
})  # fmt: skip
