"""The proof: a real worker in the environment loads a tiny model and answers a picture rightly.

The models answer with the mean of each channel (litert, onnx, opencv) or with the picture itself (dlr), so that one
right answer proves the imports, the arrays that NumPy and the library exchange, the decoder and the colour order.
DLR's needs no compiler: a graph without operations, whose library is never asked for anything and so may be any.
"""

from __future__ import annotations

import binascii
import json
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from agent.config.models import ModelOptions
from agent.errors import VergeError
from agent.frames.frame import Picture
from agent.inference.alone import MODEL, loaded
from agent.inference.environments.errors import CandidateFailedError
from agent.inference.manifest import Manifest, ModelSpec
from agent.inference.predictions import Tensor, numbers_of

__all__ = ["prove"]

_COLOUR = (200, 100, 50)
_OFF_BY = 1.0
_SIDE = 8
_PROOFS = Path(__file__).with_name("proofs")
_LOAD_S = 120.0
_ANSWER_S = 30.0


async def prove(family: str, python: str) -> str:
    """What runs the models there, with its version.

    Raises ``CandidateFailedError`` with what kept it from the right answer.
    """
    with tempfile.TemporaryDirectory(prefix="verge-proof-") as name:
        folder = Path(name)
        manifest = Manifest(
            file=str(_MODELS[family](folder)), name="proof", backend=family, task="tensors", input={"mean": 0, "std": 1}
        )
        run = ModelOptions(source="", interpreter=python, threads=1, load_timeout_s=_LOAD_S, deadline_s=_ANSWER_S)
        try:
            async with loaded(ModelSpec(manifest=manifest, run=run)) as (plane, metadata):
                answer = await plane.infer(MODEL, Picture(_png(_COLOUR), "png", _SIDE, _SIDE))
        except VergeError as error:
            raise CandidateFailedError(f"its worker failed: {error.message}") from error
    (output,) = answer.predictions
    numbers = numbers_of(output) if isinstance(output, Tensor) else None
    if not _right(numbers or ()):
        raise CandidateFailedError(f"its worker answered a picture of colour {_COLOUR} with {str(numbers)[:60]}")
    return metadata.backend


def _right(numbers: Sequence[float]) -> bool:
    pixels = zip(*[iter(numbers)] * 3, strict=True) if numbers and len(numbers) % 3 == 0 else ()
    differences = [abs(value - expected) for pixel in pixels for value, expected in zip(pixel, _COLOUR, strict=True)]
    return bool(differences) and max(differences) <= _OFF_BY


def _png(colour: tuple[int, int, int]) -> bytes:
    """A square of one colour."""
    rows = (b"\0" + bytes(colour) * _SIDE) * _SIDE
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _shipped(name: str) -> Callable[[Path], Path]:
    return lambda _folder: _PROOFS / name


def _dlr(folder: Path) -> Path:
    """A TVM model whose input is its output."""
    model = folder / "dlr"
    model.mkdir()
    graph = {
        "nodes": [{"op": "null", "name": "images", "inputs": []}],
        "arg_nodes": [0],
        "heads": [[0, 0, 0]],
        "node_row_ptr": [0, 1],
        "attrs": {
            "dltype": ["list_str", ["float32"]],
            "shape": ["list_shape", [[1, _SIDE, _SIDE, 3]]],
            "storage_id": ["list_int", [0]],
        },
    }
    (model / "model.json").write_text(json.dumps(graph))
    # The header of a list of named arrays, and that there are none.
    (model / "model.params").write_bytes(struct.pack("<QQQQ", 0xF7E58D4F05049CB7, 0, 0, 0))
    shutil.copyfile(_any_library(), model / "model.so")
    return model


def _any_library() -> str:
    """The mathematics of the C library: it is mapped into every Python, and loading a copy does nothing."""
    mapped = Path("/proc/self/maps").read_text()
    library = re.search(r"^.*?(/\S*/libm[.-]\S*)$", mapped, re.MULTILINE)
    if library is None:
        raise CandidateFailedError("no libm is mapped into the agent, so that DLR cannot be proved")
    return library[1]


_MODELS: Mapping[str, Callable[[Path], Path]] = MappingProxyType({
    "litert": _shipped("colours.tflite"),
    "onnx": _shipped("colours.onnx"),
    "opencv": _shipped("colours.onnx"),
    "dlr": _dlr,
})  # fmt: skip
