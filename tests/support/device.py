"""A device that takes deployments, and the command its owner types: ``verge`` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.support import agent as agents
from tests.support.agent import Agent

_ROOT = Path(__file__).parents[2]


@contextmanager
def device(thing: str, port: int, folder: Path) -> Iterator[Agent]:
    """A running agent without models and streams of its own."""
    config = agents.configuration(thing, port, folder, {})
    config |= {"models": {}, "streams": {}, "deployments": {"jobs": False, "shadow": False}}
    with agents.running(config, folder) as agent:
        yield agent


class Owner:
    """Types commands for one device."""

    def __init__(self, agent: Agent, port: int) -> None:
        self.agent = agent
        self._options = ("--broker", f"mqtt://127.0.0.1:{port}", "--to", agent.thing)

    def verge_deploy(self, *arguments: object, status: int = 0) -> CompletedProcess[str]:
        """Run ``verge deploy`` with these arguments, in the device's folder, and wait for its end."""
        command = [sys.executable, "-m", "agent", "deploy", *self._options, *map(str, arguments)]
        environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(_ROOT)}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.agent.folder, env=environment, timeout=240, check=False
        )
        assert done.returncode == status, f"{done.stdout}{done.stderr}"
        return done

    def deploy(self, wanted: Mapping[str, str], update: Any = None, *more: object) -> CompletedProcess[str]:
        """Deploy components by name and version, with what ``--config`` says."""
        named = [part for name, version in wanted.items() for part in ("--component", f"{name}={version}")]
        config = ("--config", json.dumps(update)) if update else ()
        return self.verge_deploy(*named, *config, *more)

    def status(self, component: str, check: Any = lambda _: True) -> dict[str, Any]:
        """What is retained of a component, once it is as wanted."""
        topic = self.agent.topic(f"components/{component}")
        return self.agent.peer.wait(topic, lambda told: bool(told) and check(told))
