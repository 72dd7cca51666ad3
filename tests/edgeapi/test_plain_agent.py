"""An agent that serves no programs carries nothing of what serving them takes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.agent import configuration, running
from tests.support.broker import Broker
from tests.support.unruly import model
from tests.support.until import until_sync

PROGRAM = """
import runpy, signal, sys

def tell(*_):
    found = sorted({"grpc", "google.protobuf", "h11", "boto3", "numpy", "cv2"} & sys.modules.keys())
    print("loaded:", found, file=sys.stderr, flush=True)

signal.signal(signal.SIGUSR2, tell)
runpy.run_module("agent", run_name="__main__")
"""


@pytest.mark.parametrize(("serving", "loaded"), [({}, []), ({"http": "127.0.0.1:0", "grpc": ""}, ["h11"])])
def test_only_what_is_asked_for_is_loaded(
    broker: Broker, thing: str, tmp_path: Path, serving: dict[str, str], loaded: list[str]
) -> None:
    more = {"serving": serving} if serving else {}
    config = configuration(thing, broker.port, tmp_path, model(tmp_path / "model"), **more)
    with running(config, tmp_path, ("-c", PROGRAM)) as agent:
        os.kill(agent.process.pid, signal.SIGUSR2)
        until_sync(lambda: "loaded: " in agent.log)
        assert f"loaded: {loaded}" in agent.log
        agent.stop()
