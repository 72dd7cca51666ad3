"""The program of a camera's process keeps to what the process is promised."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import numpy as np
import pytest

from agent.sources import runtime
from agent.sources.runtime.program import _npy_header

FILES = sorted(Path(runtime.__file__).parent.glob("*.py"))
ALLOWED = ("agent.sources.runtime", "agent.inference.runtime")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_parses_as_python_3_9_and_imports_nothing_of_the_core(path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert all(name.startswith(ALLOWED) for name in modules if name.startswith("agent"))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (120, 160), (1080, 1920), (16384, 16384)])
def test_its_npy_header_is_what_numpy_reads_and_ends_on_a_boundary(height, width) -> None:
    header = _npy_header(height, width)
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == ((height, width, 3), False, np.dtype("uint8"))
    assert len(header) % 64 == 0
    assert file.read() == b""
