"""Compiled models as SageMaker Neo lays them out, built by gcc: a real libdlr loads and runs them.

A model is a folder: the operators (``.so``, from C), the graph (``.json``) and the weights (``.params``), and
perhaps ``.meta`` and labels beside them.  ``Graph`` writes any; two are networks worth the name:

``classifier``   tells the four sample pictures apart: a perceptron over a coarse view of the picture, trained
                 here on crops of them, its answers equal to NumPy's
``yolo_triple``  finds blobs of colour and answers as GluonCV's detectors do: ids, scores and corners in pixels
"""

from __future__ import annotations

import functools
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import agent
from agent.inference.runtime.backends.dlr_library import installed
from agent.inference.runtime.errors import UnavailableError

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""What GluonCV's networks subtract and divide by: ImageNet's, of pixels from 0 to 255, RGB."""

IMAGES = Path(agent.__file__).parent / "samples" / "images"
SAMPLES = {"astronaut": "astronaut.jpg", "cat": "chelsea.jpg", "coffee cup": "coffee.jpg", "rocket": "rocket.jpg"}
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}

_PARAMS, _ARRAY = 0xF7E58D4F05049CB7, 0xDD5E40F096B4A13F
_KINDS = {"i": 0, "u": 1, "f": 2}
_PRELUDE = """
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <math.h>
typedef struct {
  void *data; int32_t device_type, device_id, ndim; uint8_t code, bits; uint16_t lanes;
  int64_t *shape, *strides; uint64_t byte_offset;
} Tensor;
typedef union { int64_t number; double real; Tensor *tensor; } Value;
#define OP(name) int32_t name(Value *args, int32_t *codes, int32_t count)
#define FLOATS(i) ((float *)((char *)args[i].tensor->data + args[i].tensor->byte_offset))
#define SIDE(i, axis) (args[i].tensor->shape[axis])
"""


@dataclass(frozen=True)
class TvmModel:
    """A model folder, its classes in order, and what its input wants."""

    folder: Path
    labels: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def input(self) -> dict[str, Any]:
        """The manifest's ``input`` for it."""
        return {"mean": list(MEAN), "std": list(STD)}


def require() -> None:
    """Skip the test where such models cannot be built and run, saying what is to be installed."""
    if shutil.which("gcc") is None:
        pytest.skip("compiled models are built with gcc: apt-get install gcc libc6-dev")
    try:
        installed()
    except UnavailableError as missing:
        pytest.skip(f"{missing.message}: pip install dlr==1.6.0, whose wheel for x86-64 brings libdlr.so")


@functools.cache
def shared_object(source: str) -> bytes:
    """The library that gcc makes of C; compiled once per process.  Skips the test as ``require`` does."""
    require()
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "ops.c"), Path(folder, "ops.so")
        code.write_text(_PRELUDE + source)
        command = [
            "gcc",
            "-O2",
            "-Werror=implicit-function-declaration",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(code),
            "-lm",
            "-ldl",
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return library.read_bytes()


def params(weights: Mapping[str, np.ndarray]) -> bytes:
    """A ``.params`` file."""
    names = b"".join(struct.pack("<Q", len(name)) + name.encode() for name in weights)
    arrays = b"".join(_array(np.ascontiguousarray(array)) for array in weights.values())
    count = struct.pack("<Q", len(weights))
    return struct.pack("<QQ", _PARAMS, 0) + count + names + count + arrays


def _array(array: np.ndarray) -> bytes:
    kind = struct.pack("<iiiBBH", 1, 0, array.ndim, _KINDS[array.dtype.kind], array.itemsize * 8, 1)
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    return struct.pack("<QQ", _ARRAY, 0) + kind + shape + struct.pack("<q", array.nbytes) + array.tobytes()


class Graph:
    """A network under construction: inputs, then weights, then operators, in the order of execution."""

    def __init__(self) -> None:
        self.weights: dict[str, np.ndarray] = {}
        self.nodes: list[dict[str, Any]] = []
        self.entries: list[tuple[Sequence[int], str]] = []
        self.rows = [0]

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> list[int]:
        """A tensor that the caller gives."""
        return self._node({"op": "null", "name": name, "inputs": []}, [(shape, dtype)])[0]

    def weight(self, name: str, array: np.ndarray) -> list[int]:
        """A tensor of the ``.params`` file."""
        self.weights[name] = array
        return self.input(name, array.shape, array.dtype.name)

    def op(self, function: str, given: Sequence[list[int]], *outputs: tuple[Sequence[int], str]) -> list[list[int]]:
        """A call of a C function with tensors; what it writes."""
        told = {"func_name": function, "flatten_data": "0"}
        counts = {"num_inputs": str(len(given)), "num_outputs": str(len(outputs))}
        name = f"{function}{len(self.nodes)}"
        return self._node({"op": "tvm_op", "name": name, "attrs": {**told, **counts}, "inputs": list(given)}, outputs)

    def save(
        self, folder: Path, source: str, heads: Sequence[list[int]], *, meta: Mapping[str, Any] | None = None
    ) -> Path:
        """Write the folder, files named as Neo names them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compiled.so").write_bytes(shared_object(source))
        (folder / "compiled.params").write_bytes(params(self.weights))
        (folder / "compiled_model.json").write_text(json.dumps(self.document(heads)))
        if meta is not None:
            (folder / "compiled.meta").write_text(json.dumps(meta))
        return folder

    def document(self, heads: Sequence[list[int]]) -> dict[str, Any]:
        """The graph as JSON."""
        return {
            "nodes": self.nodes,
            "arg_nodes": [number for number, node in enumerate(self.nodes) if node["op"] == "null"],
            "heads": list(heads),
            "node_row_ptr": self.rows,
            "attrs": {
                "dltype": ["list_str", [dtype for _, dtype in self.entries]],
                "shape": ["list_shape", [list(shape) for shape, _ in self.entries]],
                "storage_id": ["list_int", list(range(len(self.entries)))],
            },
        }

    def _node(self, node: dict[str, Any], outputs: Sequence[tuple[Sequence[int], str]]) -> list[list[int]]:
        self.nodes.append(node)
        self.entries.extend(outputs)
        self.rows.append(len(self.entries))
        return [[len(self.nodes) - 1, index, 0] for index in range(len(outputs))]


def metadata(
    inputs: Mapping[str, Sequence[int]] | None = None,
    outputs: Mapping[str, Sequence[int]] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """A ``.meta``: float32 tensors by name, and what the model was compiled for."""

    def told(tensors: Mapping[str, Sequence[int]] | None) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": "float32", "shape": list(shape)} for name, shape in (tensors or {}).items()]

    return {"Requirements": {"TargetDeviceType": device}, "Model": {"Inputs": told(inputs), "Outputs": told(outputs)}}


_COLOURS = """
OP(colours) {  /* [1, C, H, W] to [1, C]: the mean of each channel */
  int64_t plane = SIDE(0, 2) * SIDE(0, 3);
  for (int64_t c = 0; c < SIDE(0, 1); c++) {
    double sum = 0;
    for (int64_t i = 0; i < plane; i++) sum += FLOATS(0)[c * plane + i];
    FLOATS(1)[c] = sum / plane;
  }
  return 0;
}
"""


def colours(folder: Path, size: tuple[int, int] = (8, 8), *, meta: Mapping[str, Any] | None = None) -> Path:
    """The mean of each channel of ``data`` [1, 3, height, width] float32, as in ``models``."""
    graph = Graph()
    return graph.save(
        folder, _COLOURS, graph.op("colours", [graph.input("data", (1, 3, *size))], ((1, 3), "float32")), meta=meta
    )


# A program of the Relay VM

_BYTECODE, _RETURN = 0xD225DE2F4214151D, 1


def relay_program(folder: Path, shape: Sequence[int] = (1, 3, 8, 8)) -> Path:
    """The smallest program for TVM's virtual machine: ``data`` float32 is returned as ``same``."""
    folder.mkdir(parents=True, exist_ok=True)
    functions = [_texts("main", "1", "1"), _texts("data"), _numbers(1)]  # one register, one instruction; on the cpu
    instruction = _numbers(_hash(_RETURN, 0), _RETURN, 0)
    head = struct.pack("<Q", _BYTECODE) + _text("0.8.dev0") + _texts("main")
    constants = struct.pack("<Q", 0) + _numbers() + _texts()
    (folder / "code.ro").write_bytes(
        head + constants + struct.pack("<Q", 1) + b"".join(functions) + instruction,
    )
    (folder / "compiled.so").write_bytes(shared_object("OP(nothing) { return 0; }"))
    (folder / "compiled.meta").write_text(json.dumps(metadata({"data": shape}, {"same": shape})))
    return folder


def _hash(*numbers: int) -> int:
    """The check of an instruction, below 2⁶³ for those that are used here."""
    seed = numbers[0]
    for number in numbers[1:]:
        seed ^= number + 0x9E3779B9 + (seed << 6) + (seed >> 2)
    return seed


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _texts(*texts: str) -> bytes:
    return struct.pack("<Q", len(texts)) + b"".join(map(_text, texts))


def _numbers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers)


# A classifier

_TILES, _HIDDEN, _CROPS = 7, 96, 60
_CERTAINTY = 10  # between the logits of the right class and of the others
_CLASSIFIER = """
OP(coarse) {  /* [1, C, H, W] to [1, C, n, n]: the mean of each tile */
  int64_t height = SIDE(0, 2), width = SIDE(0, 3), n = SIDE(1, 2), rows = height / n, columns = width / n;
  for (int64_t tile = 0; tile < SIDE(0, 1) * n * n; tile++) {
    const float *from = FLOATS(0) + tile / (n * n) * height * width
      + tile / n % n * rows * width + tile % n * columns;
    double sum = 0;
    for (int64_t y = 0; y < rows; y++) for (int64_t x = 0; x < columns; x++) sum += from[y * width + x];
    FLOATS(1)[tile] = sum / (rows * columns);
  }
  return 0;
}
static int32_t dense(Value *args, int relu) {
  int64_t n = SIDE(1, 0), m = SIDE(1, 1);
  for (int64_t j = 0; j < m; j++) {
    double sum = FLOATS(2)[j];
    for (int64_t i = 0; i < n; i++) sum += (double)FLOATS(0)[i] * FLOATS(1)[i * m + j];
    FLOATS(3)[j] = relu && sum < 0 ? 0 : sum;
  }
  return 0;
}
OP(dense_relu) { return dense(args, 1); }
OP(dense_plain) { return dense(args, 0); }
"""


def classifier(folder: Path, size: int = 224) -> TvmModel:
    """A classifier of the sample pictures: ``data`` [1, 3, size, size] float32 as GluonCV's ResNet, logits out."""
    graph, shape = Graph(), (1, 3, size, size)
    data = graph.input("data", shape)
    weights = [graph.weight(f"p{n}", array) for n, array in enumerate(trained())]
    (tiles,) = graph.op("coarse", [data], ((1, 3, _TILES, _TILES), "float32"))
    (hidden,) = graph.op("dense_relu", [tiles, *weights[:2]], ((1, _HIDDEN), "float32"))
    logits = graph.op("dense_plain", [hidden, *weights[2:]], ((1, len(SAMPLES)), "float32"))
    graph.save(folder, _CLASSIFIER, logits, meta=metadata({"data": shape}, {"logits": (1, len(SAMPLES))}))
    (folder / "synset.txt").write_text(repr(dict(enumerate(SAMPLES))))
    return TvmModel(folder, tuple(SAMPLES), shape)


def answer(data: np.ndarray) -> np.ndarray:
    """The classifier's logits for its input, by NumPy."""
    side = data.shape[2] // _TILES
    tiles = data.astype(np.float64).reshape(1, 3, _TILES, side, _TILES, side).mean(axis=(3, 5))
    first, bias, second, offset = trained()
    return np.maximum(tiles.reshape(1, -1) @ first + bias, 0) @ second + offset


@functools.cache
def trained() -> tuple[np.ndarray, ...]:
    """The weights: a hidden layer of random features, and on it the least squares fit to crops of the pictures."""
    random = np.random.default_rng(4)
    examples = [(tiles(crop), label) for label, name in enumerate(SAMPLES.values()) for crop in crops(name, random)]
    given, labels = np.array([one for one, _ in examples]), [label for _, label in examples]
    first, bias = random.normal(size=(given.shape[1], _HIDDEN)) / np.sqrt(given.shape[1]), random.normal(size=_HIDDEN)
    hidden = np.maximum(given @ first + bias, 0)
    spread, middle = hidden - hidden.mean(axis=0), np.eye(len(SAMPLES))[labels] - 1 / len(SAMPLES)
    second = _CERTAINTY * np.linalg.solve(spread.T @ spread + np.eye(_HIDDEN), spread.T @ middle)
    return tuple(array.astype(np.float32) for array in (first, bias, second, -hidden.mean(axis=0) @ second))


def crops(name: str, random: np.random.Generator, count: int = _CROPS) -> list[np.ndarray]:
    """Parts of a sample picture (BGR), half of them mirrored, brighter or darker: other views of the same thing."""
    picture = cv2.imread(str(IMAGES / name))
    height, width = picture.shape[:2]
    found = []
    for _ in range(count):
        rows, columns = (int(side * random.uniform(0.6, 1.0)) for side in (height, width))
        top, left = (int(random.integers(0, rest + 1)) for rest in (height - rows, width - columns))
        part = picture[top : top + rows, left : left + columns]
        part = part[:, ::-1] if random.random() < 0.5 else part
        found.append(cv2.convertScaleAbs(np.ascontiguousarray(part), alpha=random.uniform(0.7, 1.3)))
    return found


def tiles(picture: np.ndarray) -> np.ndarray:
    """A picture (BGR) as the classifier's first operator sees it."""
    small = cv2.resize(picture, (_TILES, _TILES), interpolation=cv2.INTER_AREA)[..., ::-1]
    return ((small - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1).ravel()


# A detector

BOXES = 100
_SMALLEST = 64
_DETECTOR = f"""
static const float mean[3] = {{{", ".join(map(str, MEAN))}}}, std[3] = {{{", ".join(map(str, STD))}}};
enum {{ SMALLEST = {_SMALLEST} }};
"""
_DETECTOR += """
typedef struct { int id, left, top, right, bottom, pixels; } Blob;
static float share(const Blob *b) { return (float)b->pixels / ((b->right - b->left) * (b->bottom - b->top)); }
static int better(const void *a, const void *b) { return share(a) < share(b) ? 1 : share(a) > share(b) ? -1 : 0; }
static int colour(const float *data, int64_t plane, int64_t at) {
  float c[3];
  for (int k = 0; k < 3; k++) c[k] = data[k * plane + at] * std[k] + mean[k];
  for (int k = 0; k < 3; k++) if (c[k] > 150 && c[(k + 1) % 3] < 90 && c[(k + 2) % 3] < 90) return k;
  return -1;
}
OP(blobs) {  /* data [1, 3, H, W]; ids [1, N, 1], scores [1, N, 1], corners [1, N, 4]: one row a connected blob */
  int64_t height = SIDE(0, 2), width = SIDE(0, 3), plane = height * width, most = SIDE(1, 1);
  int8_t *colours = malloc(plane);
  int32_t *stack = malloc(plane * sizeof *stack), found = 0;
  Blob *blobs = malloc(plane * sizeof *blobs);
  for (int64_t i = 0; i < plane; i++) colours[i] = colour(FLOATS(0), plane, i);
  for (int64_t i = 0; i < plane; i++) {
    int id = colours[i];
    if (id < 0) continue;
    Blob b = {id, width, height, 0, 0, 0};
    int32_t depth = 0;
    stack[depth++] = i; colours[i] = -1;
    while (depth) {
      int32_t at = stack[--depth], x = at % width, y = at / width;
      b.pixels++;
      if (x < b.left) b.left = x;
      if (y < b.top) b.top = y;
      if (x >= b.right) b.right = x + 1;
      if (y >= b.bottom) b.bottom = y + 1;
      if (x > 0 && colours[at - 1] == id) { stack[depth++] = at - 1; colours[at - 1] = -1; }
      if (x + 1 < width && colours[at + 1] == id) { stack[depth++] = at + 1; colours[at + 1] = -1; }
      if (y > 0 && colours[at - width] == id) { stack[depth++] = at - width; colours[at - width] = -1; }
      if (y + 1 < height && colours[at + width] == id) { stack[depth++] = at + width; colours[at + width] = -1; }
    }
    if (b.pixels >= SMALLEST) blobs[found++] = b;
  }
  qsort(blobs, found, sizeof *blobs, better);
  for (int64_t n = 0; n < most; n++) {
    Blob b = blobs[n < found ? n : 0];
    float row[6] = {b.id, share(&b), b.left, b.top, b.right, b.bottom};
    for (int k = 0; n >= found && k < 6; k++) row[k] = -1;
    FLOATS(1)[n] = row[0]; FLOATS(2)[n] = row[1];
    for (int k = 0; k < 4; k++) FLOATS(3)[4 * n + k] = row[2 + k];
  }
  free(colours); free(stack); free(blobs);
  return 0;
}
"""


def yolo_triple(folder: Path, size: int = 512) -> TvmModel:
    """A detector of red, green and blue blobs as GluonCV's YOLOv3 answers; a score is a blob's share of its box."""
    graph, shape = Graph(), (1, 3, size, size)
    data = graph.input("data", shape)
    outputs = graph.op("blobs", [data], *(((1, BOXES, width), "float32") for width in (1, 1, 4)))
    graph.save(folder, _DETECTOR, outputs)
    (folder / "labels.txt").write_text(repr(list(COLOURS)))
    return TvmModel(folder, tuple(COLOURS), shape)


def scene(*blobs: tuple[str, tuple[int, int, int, int]], width: int = 640, height: int = 480) -> np.ndarray:
    """A grey picture (BGR) with filled rectangles (left, top, right, bottom) of named colours."""
    picture = np.full((height, width, 3), 127, np.uint8)
    for name, (left, top, right, bottom) in blobs:
        picture[top:bottom, left:right] = COLOURS[name][::-1]
    return picture
