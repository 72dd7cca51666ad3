"""The program that an interpreter is asked with: it prints a line of JSON about itself.

Run by path in any Python that there is, so it keeps to what the oldest ones understand.  Given names of
modules, it says which of them are there and what is installed, which takes longer.
"""

import json
import os
import platform
import struct
import sys
import sysconfig


def _there(name: str) -> bool:
    try:
        import importlib.util  # noqa: PLC0415

        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def _installed() -> "dict[str, str]":
    from importlib import metadata  # noqa: PLC0415

    return {one.metadata["Name"]: one.version for one in metadata.distributions() if one.metadata["Name"]}


def main(arguments: "list[str]") -> None:
    """Print what there is to know."""
    answer = {
        "implementation": platform.python_implementation(),
        "version": list(sys.version_info[:3]),
        "path": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
        "prefix": sys.prefix,
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "libc": _libc(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "venv": _there("venv"),
        "ensurepip": _there("ensurepip"),
    }
    if arguments:
        answer["packages"] = _installed()
        answer["modules"] = [name for name in arguments if _there(name)]
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
