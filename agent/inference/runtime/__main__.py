"""Start a worker: run by path, in whichever interpreter a model names.

Only this folder of the agent is made importable, under its own name: neither the core's packages nor its
dependencies reach the worker, whose interpreter may be another one.
"""

import os
import sys
import types


def _graft() -> None:
    """Let ``agent.inference.runtime`` be imported without running the core's ``agent/__init__``."""
    here = os.path.dirname(os.path.abspath(__file__))
    inference = os.path.dirname(here)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    for name, path in (("agent", os.path.dirname(inference)), ("agent.inference", inference)):
        package = types.ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package


if __name__ == "__main__":
    _graft()
    if sys.argv[5:]:
        from agent.inference.runtime.user import become

        become(sys.argv[5])
    from agent.inference.runtime.worker import main

    raise SystemExit(main(sys.argv[1:]))
