"""What a backend and a task must do, and the values they exchange.

A *backend* runs a network: arrays in, arrays out.  A *task* gives the arrays a meaning: predictions.
The two are independent of each other; the session (``session.py``) joins them with the preprocessing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

__all__ = [
    "FITS",
    "NAMED",
    "SAID",
    "TOLD",
    "Backend",
    "Claim",
    "Geometry",
    "Labels",
    "Network",
    "Prediction",
    "Task",
    "TensorInfo",
]

_PICTURES = 4

Prediction = Dict[str, Any]
"""What a model says, of one of the kinds of ``kinds.py``; places are fractions of the frame."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a network, as its file describes it."""

    name: str
    shape: Tuple[int, ...]
    """Unknown or dynamic dimensions are -1."""
    dtype: str
    """NumPy's name: float32, float16, uint8, int8, int32, int64, bool …"""
    scale: Optional[float] = None
    """Affine quantisation: real = scale × (stored - zero_point); None for plain tensors."""
    zero_point: int = 0

    @property
    def kind(self) -> str:
        """NumPy's letter of its type, ``f``, ``i``, ``u``, ``b`` …; empty for what is no array."""
        try:
            return np.dtype(self.dtype).kind
        except (TypeError, ValueError):
            return ""

    def as_dict(self) -> Dict[str, Any]:
        """The tensor as JSON."""
        described: Dict[str, Any] = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        if self.scale is not None:
            described["quantization"] = {"scale": self.scale, "zero_point": self.zero_point}
        return described


@dataclass(frozen=True)
class Geometry:
    """How the network's picture lies in the frame: frame = offset + network × extent, in fractions.

    A stretched picture has offset (0, 0) and extent (1, 1); a letterboxed one a negative offset and an
    extent above 1 on the padded axis; a central crop a positive offset and an extent below 1.
    """

    width: int
    height: int
    """The frame's size in pixels after EXIF orientation."""
    network_width: int
    network_height: int
    offset_x: float = 0.0
    offset_y: float = 0.0
    extent_x: float = 1.0
    extent_y: float = 1.0


@dataclass(frozen=True)
class Labels:
    """The names of a model's classes by their number."""

    names: Mapping[int, str] = field(default_factory=dict)
    count: Optional[int] = None
    """How many classes they are for, as their file lists or says it; None where it names some by number."""
    source: str = ""
    """Where they are from, for errors."""

    @property
    def size(self) -> int:
        """How many classes they are for; at least one more than the highest number that has a name."""
        return max(self.names, default=-1) + 1 if self.count is None else self.count

    def name(self, label_id: int) -> str:
        """The class's name, or ``class 17`` where the model has none for it."""
        return self.names.get(label_id) or f"class {label_id}"


@dataclass(frozen=True)
class Network:
    """What is known of a network before it runs."""

    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    labels: Labels
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the file says beyond its tensors (``filemeta.py``)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says to the task."""

    @property
    def size(self) -> Optional[Tuple[int, int]]:
        """(height, width) of the input picture, NHWC or NCHW; None where the file leaves it open."""
        shape = self.inputs[0].shape if self.inputs else ()
        if len(shape) != _PICTURES:
            return None
        height, width = shape[2:] if shape[1] in (1, 3) else shape[1:3]
        return (height, width) if min(height, width) > 0 else None

    @property
    def label_count(self) -> int:
        """How many classes the labels are for; 0 without labels."""
        return self.labels.size

    def __str__(self) -> str:
        return ", ".join(f"{info.name} {list(info.shape)}" for info in self.outputs)


TOLD, SAID, NAMED, FITS = 4, 3, 2, 1
"""What a claim rests on: the manifest, the file's metadata, the names of its tensors, or their shapes alone."""


@dataclass(frozen=True)
class Claim:
    """That a network is of some family, made before it runs: what a manifest could have said of it."""

    strength: int
    why: str
    """In a clause: ``its metadata says detect``, ``outputs are called boxes and scores``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the task, where the manifest leaves them open."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's ``[input]`` as the family is usually fed, where manifest and file leave it open."""
    against: str = ""
    """What does not fit; such a claim is not tried, only named where nothing else fits."""


class Backend(ABC):
    """A network, loaded: ``run`` takes arrays as ``inputs`` describes and returns them as ``outputs`` does."""

    name: str = ""
    inputs: Sequence[TensorInfo] = ()
    outputs: Sequence[TensorInfo] = ()
    accelerator: str = "cpu"
    """What really runs the network, in the words of the manifest: ``cpu``, ``gpu`` …"""
    metadata: Mapping[str, Any] = {}
    """What the file says beyond its tensors: ``labels`` (list of str), ``mean``, ``std``, ``description`` …"""

    @classmethod
    def version(cls) -> str:
        """The runtime's own version; raises ``UnavailableError`` with the install command where it is missing."""
        return ""

    @classmethod
    def accepts(cls, path: str) -> bool:
        """Whether the file or folder looks like this backend's (by name and first bytes).

        A backend that never accepts is taken only where a model names it.
        """
        del path
        return False

    @abstractmethod
    def __init__(self, path: str, threads: int, accelerator: str, options: Mapping[str, Any]) -> None:
        """Load ``path``; raises ``ModelError`` for a broken file, ``UnavailableError`` for an absent accelerator."""

    @abstractmethod
    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """One inference; the arrays returned belong to the caller (they are not overwritten by the next run)."""


class Task(ABC):
    """What a network's outputs mean."""

    name: str = ""

    @abstractmethod
    def __init__(
        self,
        options: Mapping[str, Any],
        labels: Labels,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
    ) -> None:
        """Check options and outputs once, at load; raises ``ModelError`` naming the option or tensor."""

    @classmethod
    def recognises(cls, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bool:
        """Whether these outputs look like this task's (how ``task = "auto"`` is resolved)."""
        del inputs, outputs
        return False

    @classmethod
    def claims(cls, network: Network) -> Sequence[Claim]:
        """What this task may make of a network, the likeliest first."""
        return [Claim(FITS, "its outputs fit")] if cls.recognises(network.inputs, network.outputs) else []

    def doubt(self, outputs: Sequence[np.ndarray], geometry: Geometry, strength: int) -> str:
        """What in the outputs of a run speaks against this task, in a clause; empty where they bear the claim out."""
        del outputs, geometry, strength
        return ""

    @abstractmethod
    def predictions(self, outputs: Sequence[np.ndarray], geometry: Geometry) -> List[Prediction]:
        """The outputs (dequantised to float where they were quantised) as predictions, best first."""
