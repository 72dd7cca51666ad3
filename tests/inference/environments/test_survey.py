"""Interpreters are found by asking them; those that do not answer as they should do not matter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.inference.environments import survey
from agent.inference.environments.command import environment

OWN = os.path.realpath(sys._base_executable)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_the_agents_own_python_is_the_first_and_is_known_by_its_real_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    (tmp_path / "python3").symlink_to(sys.executable)
    found = await survey.host(tmp_path / "not" / "there")
    (only,) = found.interpreters
    assert (only.path, only.version, only.own) == (OWN, sys.version_info[:3], True)
    assert found.free_bytes > 0
    assert found.flags


async def test_shims_old_pythons_and_nonsense_are_passed_over_with_the_reason(tmp_path, monkeypatch) -> None:
    old = (
        '{"implementation": "CPython", "version": [3, 6, 9], "path": "/x", "machine": "x86_64", "bits": 64, '
        '"libc": "glibc 2.27", "free_threaded": false, "venv": true, "ensurepip": true}'
    )
    program(tmp_path / "bin" / "python3", "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    program(tmp_path / "bin" / "python3.9", f"#!/bin/sh\necho '{old}'\n")
    program(tmp_path / "bin" / "python3.10", "#!/bin/sh\necho hello\n")
    program(tmp_path / "bin" / "python3.12", "not a program")
    program(tmp_path / "versions" / "3.13.0" / "bin" / "python3", "#!/bin/sh\necho '[]'\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    found = await survey.host(tmp_path)
    assert found.interpreters[0].path == OWN
    reasons = "\n".join(line for line in found.passed_over if str(tmp_path) in line)
    assert "bin/python3 ended with status 127: pyenv: python3: command not found" in reasons
    assert "bin/python3.9 is CPython 3.6.9, workers run on CPython 3.9 to 3.14" in reasons
    assert "bin/python3.10 spoke nonsense: hello" in reasons
    assert "bin/python3.12 cannot be run" in reasons
    assert "3.13.0/bin/python3 spoke nonsense: []" in reasons


async def test_an_interpreter_that_hangs_is_given_up_and_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(survey, "_ANSWER_S", 0.5)
    hanging = program(tmp_path / "python3", f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep 600\n")
    assert await survey.ask(str(hanging)) == f"{hanging} did not answer within 0.5 s"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


async def test_a_named_interpreter_is_the_only_one_looked_at(tmp_path) -> None:
    assert [each.path for each in (await survey.host(tmp_path, sys.executable)).interpreters] == [OWN]
    missing = await survey.host(tmp_path, str(tmp_path / "python"))
    assert missing.interpreters == ()
    assert "No such file" in missing.passed_over[0]


def test_a_32_bit_python_on_a_64_bit_kernel_is_a_32_bit_machine() -> None:
    facts = {
        "implementation": "CPython", "version": [3, 11, 2], "path": "/usr/bin/python3.11", "machine": "aarch64",
        "bits": 32, "libc": "glibc 2.36", "free_threaded": False, "venv": True, "ensurepip": False,
    }  # fmt: skip
    known = survey.interpreter(facts, "python3")
    assert not isinstance(known, str)
    assert (known.machine, known.libc_version, known.ensurepip) == ("armv7l", (2, 36), False)


def test_what_is_run_for_a_runtime_sees_neither_the_agents_settings_nor_what_bends_a_python() -> None:
    given = {"VERGE_PASSWORD": "x", "PYTHONPATH": "/x", "VIRTUAL_ENV": "/x", "PIP_INDEX_URL": "y", "HOME": "/root"}
    assert environment(given) == {"HOME": "/root"}
    assert environment(given, kept=("PIP_",), PYTHONPATH="z") == {
        "HOME": "/root",
        "PIP_INDEX_URL": "y",
        "PYTHONPATH": "z",
    }
