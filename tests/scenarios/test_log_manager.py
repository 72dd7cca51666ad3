"""A deployment of the log manager bounds the logs of a component on a device without an AWS account."""

from __future__ import annotations

import getpass
from pathlib import Path

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document
from tests.support.until import until_sync

NUCLEUS, LOGS, APP = "aws.greengrass.Nucleus", "aws.greengrass.LogManager", "com.example.Talker"


def test_the_log_manager_keeps_a_components_logs_within_their_disk_space(broker, thing, tmp_path):
    config = agents.configuration(thing, broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"jobs": False, "shadow": False}}
    prints = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; done; sleep 600"
    told = document("logs", [Fleet(tmp_path / "fleet").scripts(APP, Run=prints)], {APP: "1.0.0"})
    uploader = {"componentLogsConfigurationMap": {APP: {"diskSpaceLimit": "4", "diskSpaceLimitUnit": "KB"}}}
    settings = {"logsUploaderConfiguration": uploader, "periodicUploadIntervalSec": "1"}
    told["components"][LOGS] = {"version": "2.3.1", "configurationUpdate": {"merge": settings}}
    small = {"runWithDefault": {"posixUser": getpass.getuser()}, "logging": {"fileSizeKB": 1, "totalLogsSizeKB": 100}}
    told["components"][NUCLEUS] = {"version": "2.12.6", "configurationUpdate": {"merge": small}}
    with agents.running(config, tmp_path) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        logs = Path(agent.folder) / "data" / "logs"

        def bounded() -> bool:
            files = list(logs.glob(f"{APP}.log*"))
            sizes = [path.stat().st_size for path in files]
            return "line 200 " in (logs / f"{APP}.log").read_text() and sum(sizes) <= 4096 and max(sizes) <= 1024

        until_sync(bounded, why=lambda: agent.log)
