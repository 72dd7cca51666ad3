"""Start a camera's program: run by path, in whichever interpreter a camera names.

Only the worker's side and this folder are made importable, under their own names: neither the core's packages nor its
dependencies reach the program, whose interpreter may be another one.
"""

import os
import sys
import types


def _graft() -> None:
    """Let the two ``runtime`` packages be imported without running the core's ``agent/__init__``."""
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    packages = (("agent", root), ("agent.inference", f"{root}/inference"), ("agent.sources", f"{root}/sources"))
    for name, path in packages:
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


if __name__ == "__main__":
    _graft()
    from agent.sources.runtime.program import main

    main(sys.argv[1:])
