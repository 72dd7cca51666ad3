"""Amazon's own client for Python, unmodified, in a process of its own against this stream manager."""

import asyncio
import importlib.util
import json
import os
import sys

import pytest

from agent.greengrass.services.streams.manager import StreamManager

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("stream_manager") is None,
    reason="Amazon's client is missing: pip install stream-manager",
)

PROGRAM = """
import json
from stream_manager import (
    ExportDefinition, KinesisConfig, MessageStreamDefinition, NotEnoughMessagesException, Persistence,
    ReadMessagesOptions, ResourceNotFoundException, S3ExportTaskExecutorConfig, StatusConfig, StatusLevel,
    StrategyOnFull, StreamManagerClient, UpdateNotAllowedException, IoTSiteWiseConfig,
)

seen = []

def refused(kind, do, *args):
    try:
        do(*args)
    except kind:
        seen.append(kind.__name__)

with StreamManagerClient() as client:
    exports = ExportDefinition(
        kinesis=[KinesisConfig(identifier="k", kinesis_stream_name="stream", disabled=True)],
        iot_sitewise=[IoTSiteWiseConfig(identifier="w", disabled=True)],
        s3_task_executor=[S3ExportTaskExecutorConfig(
            identifier="3", disabled=True,
            status_config=StatusConfig(status_level=StatusLevel.INFO, status_stream_name="status"))],
    )
    definition = MessageStreamDefinition(
        name="line 1", strategy_on_full=StrategyOnFull.OverwriteOldestData, persistence=Persistence.File,
        flush_on_write=True, export_definition=exports)
    refused(ResourceNotFoundException, client.delete_message_stream, "line 1")
    client.create_message_stream(definition)
    seen.append([client.append_message("line 1", str(number).encode()) for number in range(5)])
    options = ReadMessagesOptions(desired_start_sequence_number=1, min_message_count=3, max_message_count=3)
    seen.append([(m.stream_name, m.sequence_number, m.payload.decode()) for m in
                 client.read_messages("line 1", options)])
    refused(NotEnoughMessagesException, client.read_messages, "line 1",
            ReadMessagesOptions(min_message_count=9, read_timeout_millis=50))
    seen.append(client.list_streams())
    definition.time_to_live_millis = 60000
    client.update_message_stream(definition)
    info = client.describe_message_stream("line 1")
    seen.append([info.definition.time_to_live_millis, info.storage_status.newest_sequence_number,
                 info.storage_status.total_bytes,
                 sorted(one.export_config_identifier for one in info.export_statuses),
                 info.definition.export_definition.s3_task_executor[0].status_config.status_stream_name])
    definition.persistence = Persistence.Memory
    refused(UpdateNotAllowedException, client.update_message_stream, definition)
    client.delete_message_stream("line 1")
    seen.append(client.list_streams())
print(json.dumps(seen))
"""


async def run(port, token):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "STREAM_MANAGER_SERVER_PORT": str(port), "AWS_CONTAINER_AUTHORIZATION_TOKEN": token},
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode, out.decode(), err.decode()


async def test_the_public_client_does_everything_it_can(tmp_path):
    service = StreamManager(tmp_path, {"token": "my.component"}.get)
    await service.apply({"STREAM_MANAGER_SERVER_PORT": 0})
    try:
        code, out, err = await run(service.port, "token")
        assert code == 0, err
        assert json.loads(out) == [
            "ResourceNotFoundException",
            [0, 1, 2, 3, 4],
            [["line 1", 1, "1"], ["line 1", 2, "2"], ["line 1", 3, "3"]],
            "NotEnoughMessagesException",
            ["line 1"],
            [60000, 4, 5, ["3", "k", "w"], "status"],
            "UpdateNotAllowedException",
            [],
        ]
        code, _, err = await run(service.port, "wrong")
        assert code == 1
        assert "ConnectFailedException" in err
    finally:
        await service.apply(None)
