"""Logs of components as they are written, in the CloudWatch Logs of moto's real server, and on the disk."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager

import pytest

from agent.config.aws import AwsOptions
from agent.greengrass.components.logs import ComponentLog
from agent.greengrass.services.logs.manager import LogManager
from tests.support.moto import Moto
from tests.support.until import until

THING = "camera-1"


@pytest.fixture(scope="module")
def moto():
    with Moto() as server:
        yield server


@pytest.fixture
def here(moto, tmp_path, thing, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", moto.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return Here(moto, tmp_path, f"com.example.{thing}")


class Here:
    def __init__(self, moto, folder, name):
        self.client, self.folder, self.name = moto.client("logs"), folder, name
        self.logs = folder / "logs"

    def manager(self, aws=AwsOptions(region="us-east-1")):  # noqa: B008 it is frozen
        return LogManager(THING, self.logs, self.folder / "uploads/logs", aws, None)

    @asynccontextmanager
    async def running(self, manager=None, **table):
        manager = manager or self.manager()
        uploader = {"componentLogsConfigurationMap": {self.name: table}}
        await manager.apply({"logsUploaderConfiguration": uploader, "periodicUploadIntervalSec": 1})
        try:
            yield manager
        finally:
            await manager.apply(None)

    def log(self, **sizes):
        return ComponentLog(self.logs, self.name, **sizes)

    def quiet(self):
        """The log was last written a while ago."""
        then = time.time() - 60
        for age in range(len(list(self.logs.iterdir()))):
            path = self.logs / f"{self.name}.log{f'.{age}' if age else ''}"
            os.utime(path, (then - age, then - age))

    def uploaded(self):
        group = f"/aws/greengrass/UserComponent/us-east-1/{self.name}"
        stream = time.strftime("/%Y/%m/%d/thing/", time.gmtime()) + THING
        try:
            answer = self.client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
        except self.client.exceptions.ResourceNotFoundException:
            return []
        return [event["message"].partition("stdout. ")[2].partition(" {")[0] for event in answer["events"]]


def write(log, *messages, level="INFO"):
    for message in messages:
        log.write(level, "stdout", message, {})
    log.close()


async def test_what_a_component_prints_is_in_the_group_of_the_component_and_the_stream_of_the_day(here):
    write(here.log(), "one", "two")
    here.quiet()
    async with here.running():
        await until(lambda: here.uploaded() == ["one", "two"])


async def test_nothing_is_sent_twice_or_left_out_over_restarts_and_rotations(here):
    log = here.log(file_bytes=400, total_bytes=100_000)
    write(log, *(f"{n}" for n in range(5)))
    here.quiet()
    async with here.running():
        await until(lambda: here.uploaded() == [f"{n}" for n in range(5)])
    write(log, *(f"{n}" for n in range(5, 20)))
    assert len(list(here.logs.iterdir())) > 3
    here.quiet()
    async with here.running():
        await until(lambda: here.uploaded() == [f"{n}" for n in range(20)], 20, why=here.uploaded)


async def test_what_is_below_the_level_stays_on_the_device(here):
    log = here.log()
    write(log, "quiet")
    write(log, "loud", level="ERROR")
    here.quiet()
    async with here.running(minimumLogLevel="ERROR"):
        await until(lambda: here.uploaded() == ["loud"])


async def test_a_file_that_is_uploaded_goes_where_that_is_wanted_but_not_the_one_that_is_written(here):
    write(here.log(file_bytes=400, total_bytes=100_000), *(f"{n}" for n in range(20)))
    here.quiet()
    async with here.running(deleteLogFileAfterCloudUpload="true"):
        await until(lambda: [path.name for path in here.logs.iterdir()] == [f"{here.name}.log"])
        await until(lambda: here.uploaded() == [f"{n}" for n in range(20)], 20, why=here.uploaded)


async def test_a_cloud_that_is_not_reached_is_said_once_and_asked_again(here, monkeypatch, caplog):
    write(here.log(), "kept")
    here.quiet()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://127.0.0.1:9")
    async with here.running():
        await until(lambda: "check the network" in caplog.text or "127.0.0.1:9" in caplog.text)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", here.client.meta.endpoint_url)
    async with here.running():
        await until(lambda: here.uploaded() == ["kept"])


async def test_without_an_account_logs_are_bounded_and_not_uploaded(here):
    write(here.log(file_bytes=400, total_bytes=100_000), *(f"{n}" for n in range(20)))
    here.quiet()
    async with here.running(here.manager(aws=None), diskSpaceLimit=1):
        await until(lambda: sum(path.stat().st_size for path in here.logs.iterdir()) <= 1024)
    assert (here.logs / f"{here.name}.log").exists()
    assert "19" in (here.logs / f"{here.name}.log").read_text()
    assert here.uploaded() == []
