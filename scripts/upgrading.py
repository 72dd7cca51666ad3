"""An agent of an earlier checkout makes a data folder, and this one starts on it; see ``scripts/check-upgrade``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.config.load import data_folders
from agent.greengrass.deployments.ledger import LedgerReader
from tests.support import agent as agents
from tests.support import unruly
from tests.support.broker import Broker
from tests.support.fleet import Fleet, deploy, document, outcome
from tests.support.until import until_sync

THING, WAITING = "upgraded", 5
ACCEPT = "anything-from-anyone"
"""What both know."""
JOB = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from agent.greengrass.deployments.ledger import Ledger, Step
async def main():
    async with Ledger(Path(sys.argv[2])) as ledger:
        seq = await ledger.receive("job-1", "IOT_JOBS/job-1/1", sys.stdin.buffer.read(), int(sys.argv[3]))
        await ledger.step(seq, Step.RESOLVED)
asyncio.run(main())
"""
"""A job that the plug was pulled on, as the earlier ledger keeps it."""


def main(earlier: str) -> None:
    """Print what was kept; raises ``AssertionError`` where something was not."""
    with tempfile.TemporaryDirectory() as place, Broker() as broker:
        folder = Path(place)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        fleet, config = Fleet(folder / "fleet"), configuration(folder, broker.port)
        old = ("-c", f"import sys; sys.path.insert(0, {earlier!r}); from agent.cli import main; main()")
        with agents.running(config, folder, old) as agent:
            assert deploy(agent, deployed(fleet, "first", "1.0.0"))["status"] == "SUCCEEDED"
            broker.kill()
            for number in range(WAITING):
                picture = folder / "pictures" / f".{number}"
                picture.write_bytes(unruly.jpeg("answer", number))
                picture.rename(picture.with_name(f"{number}.jpg"))
            time.sleep(5)  # nobody tells how many are stored while the broker is away
            agent.stop(signal.SIGKILL)
        for picture in (folder / "pictures").iterdir():
            picture.unlink()  # it is not to be answered again
        data = folder / "state" / "verge"
        job = json.dumps(deployed(fleet, "job-1", "2.0.0")).encode()
        command = [
            sys.executable,
            "-c",
            JOB,
            earlier,
            str(data / "deployments" / "ledger.db"),
            str(int(time.time() * 1e3)),
        ]
        subprocess.run(command, input=job, check=True, cwd=earlier)
        broker.start()
        started = time.monotonic()
        with agents.running(config, folder) as agent:
            seconds = time.monotonic() - started
            assert outcome(agent, "job-1")["status"] == "SUCCEEDED", "the job goes on"
            until_sync(lambda: len(agent.results("files")) >= WAITING, why=lambda: agent.log)
            agent.peer.publish(f"{THING}/cameras/door/frame", unruly.jpeg("answer"))
            version = agent.result(stream="com.cameras")["model"]["version"]
            status = agent.peer.wait(agent.topic("status"), lambda told: told.get("pid") == agent.process.pid)
        with LedgerReader(data_folders(None, os.environ | {"VERGE_THING": THING})) as ledger:
            entries = {entry.id: str(entry.step) for entry in ledger.entries()}
        assert entries == {"first": "COMMITTED", "job-1": "COMMITTED"}
        assert not status.get("problems")
        print(json.dumps({
            "data_folder": "kept in use", "set": f"com.model {version}", "results_from_outbox": WAITING,
            "deployments": entries, "start_s": round(seconds, 2),
        }))  # fmt: skip


def configuration(folder: Path, port: int) -> dict[str, Any]:
    """Files are answered by the configuration's own stream; results wait on disk while the broker is away."""
    (folder / "pictures").mkdir()
    made = agents.configuration(THING, port, folder, unruly.model(folder / "model"))
    del made["data_dir"]
    made["transports"]["local"]["outbox"] = {}
    files = {"model": "model", "input": {"directory": {"path": str(folder / "pictures")}}, "policy": "fifo"}
    return made | {"streams": {"files": files}, "deployments": {"jobs": False, "shadow": False, "accept": ACCEPT}}


def deployed(fleet: Fleet, identity: str, version: str) -> dict[str, Any]:
    """A model and a stream over it."""
    recipes = [fleet.model("com.model", version), fleet.stream("com.cameras", "com.model", f"{THING}/cameras/+/frame")]
    return document(identity, recipes, {"com.cameras": "1.0.0", "com.model": version})


if __name__ == "__main__":
    main(sys.argv[1])
