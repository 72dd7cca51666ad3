import json
from contextlib import asynccontextmanager

import pytest

from agent.errors import InvalidInputError
from agent.greengrass.services.streams import destinations
from agent.greengrass.services.streams.definition import Kinesis, SiteWise, parse
from agent.greengrass.services.streams.manager import StreamManager
from agent.greengrass.services.streams.store import StreamMessage
from tests.support.moto import Moto
from tests.support.stream_client import DESCRIBE, UPDATE, connected
from tests.support.tcp import serving
from tests.support.until import until


@pytest.fixture(scope="module")
def moto():
    with Moto() as running:
        yield running


@asynccontextmanager
async def exporting(folder, clients):
    service = StreamManager(folder, {"token": "my.component"}.get, clients)
    await service.apply({"STREAM_MANAGER_SERVER_PORT": 0})
    try:
        async with connected(service.port) as client:
            yield client
    finally:
        await service.apply(None)


async def export_status(client, name):
    (status,) = (await client.ask(DESCRIBE, name=name))["messageStreamInfo"]["exportStatuses"]
    return status


def exported_up_to(client, name, number):
    async def condition():
        return (await export_status(client, name))["lastExportedSequenceNumber"] == number

    return until(condition)


def records(kinesis, stream):
    shard = kinesis.describe_stream(StreamName=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    start = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return [one["Data"] for one in kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]]


async def test_kinesis_gets_every_message_once_in_order_and_goes_on_where_it_was(tmp_path, moto):
    kinesis = moto.client("kinesis")
    kinesis.create_stream(StreamName="line", ShardCount=1)
    exports = {"kinesis": [{"identifier": "k", "kinesisStreamName": "line", "batchSize": 7}]}
    async with exporting(tmp_path, moto.client) as client:
        await client.create("s", exportDefinition=exports)
        for number in range(20):
            await client.append("s", str(number).encode())
        await exported_up_to(client, "s", 19)
    async with exporting(tmp_path, moto.client) as client:
        await client.append("s", b"20")
        await exported_up_to(client, "s", 20)
        status = await export_status(client, "s")
        assert status["exportedMessagesCount"] == 21
    assert records(kinesis, "line") == [str(number).encode() for number in range(21)]


async def test_what_fails_is_tried_again_and_nothing_goes_first(tmp_path, moto, monkeypatch):
    monkeypatch.setattr("agent.greengrass.services.streams.exports.RETRY_S", (0.01, 0.05))
    exports = {"kinesis": [{"identifier": "k", "kinesisStreamName": "later", "batchSize": 2}]}
    async with exporting(tmp_path, moto.client) as client:
        await client.create("s", exportDefinition=exports)
        for number in range(5):
            await client.append("s", str(number).encode())
        status = await until(lambda: _failing(client))
        assert "ResourceNotFoundException" in status["errorMessage"]
        assert status["lastExportedSequenceNumber"] == -1
        kinesis = moto.client("kinesis")
        kinesis.create_stream(StreamName="later", ShardCount=1)
        await exported_up_to(client, "s", 4)
        assert (await export_status(client, "s"))["errorMessage"] == ""
    assert records(kinesis, "later") == [b"0", b"1", b"2", b"3", b"4"]


async def _failing(client):
    status = await export_status(client, "s")
    return status if status["errorMessage"] else None


async def test_an_export_begins_at_its_number_waits_for_its_batch_and_can_be_disabled(tmp_path, moto):
    kinesis = moto.client("kinesis")
    kinesis.create_stream(StreamName="batch", ShardCount=1)
    export = {"identifier": "k", "kinesisStreamName": "batch", "batchSize": 3, "batchIntervalMillis": 60000}
    export["startSequenceNumber"] = 2
    definition = {"name": "s", "strategyOnFull": 0, "exportDefinition": {"kinesis": [export]}}
    async with exporting(tmp_path, moto.client) as client:
        await client.create(**{k: v for k, v in definition.items() if k != "strategyOnFull"})
        for number in range(7):
            await client.append("s", str(number).encode())
        await exported_up_to(client, "s", 4)
        assert records(kinesis, "batch") == [b"2", b"3", b"4"]
        export["disabled"] = True
        assert (await client.ask(UPDATE, definition=definition))["status"] == 0
        await client.append("s", b"7")
        assert (await export_status(client, "s"))["lastExportedSequenceNumber"] == 4
        export["disabled"] = False
        await client.ask(UPDATE, definition=definition)
        await exported_up_to(client, "s", 7)
    assert records(kinesis, "batch") == [b"2", b"3", b"4", b"5", b"6", b"7"]


async def test_a_task_uploads_its_file_to_s3_and_what_became_of_it_is_in_the_status_stream(tmp_path, moto, monkeypatch):
    monkeypatch.setattr(destinations, "_open_to_others", lambda _status, _path: True)  # where tests run as root
    s3 = moto.client("s3")
    s3.create_bucket(Bucket="bucket")
    file = tmp_path / "picture 1.jpg"
    file.write_bytes(b"p" * (6 * 1024 * 1024))
    executor = {"identifier": "3", "statusConfig": {"statusLevel": 2, "statusStreamName": "status"}}
    tasks = [
        {"inputUrl": f"file://{file}", "bucket": "bucket", "key": "at/!{timestamp:yyyy}/a", "userMetadata": {"K": "v"}},
        {"inputUrl": f"file://{tmp_path}/none", "bucket": "bucket", "key": "b"},
        {"inputUrl": "https://example.org/x", "bucket": "bucket", "key": "c"},
    ]
    async with exporting(tmp_path / "store", moto.client) as client:
        await client.create("status")
        await client.create("s", exportDefinition={"s3TaskExecutor": [executor]})
        for task in tasks:
            await client.append("s", json.dumps(task).encode())
        await client.append("s", b"no task")
        answer = await client.read("status", minMessageCount=4, readTimeoutMillis=30000)
        await exported_up_to(client, "s", 3)
    reports = [json.loads(one["payload"]) for one in answer["messages"]]
    assert [one["status"] for one in reports] == [0, 1, 1, 1]
    assert reports[0]["statusContext"] == {
        "s3ExportTaskDefinition": tasks[0], "exportIdentifier": "3", "streamName": "s", "sequenceNumber": 0,
    }  # fmt: skip
    (found,) = s3.list_objects_v2(Bucket="bucket")["Contents"]
    assert found["Key"][:5] == "at/20"
    got = s3.get_object(Bucket="bucket", Key=found["Key"])
    assert got["Body"].read() == file.read_bytes()
    assert got["Metadata"] == {"k": "v"}


@pytest.mark.parametrize(
    ("exports", "trouble"),
    [
        ({"kinesis": [{"identifier": "k", "kinesisStreamName": "x"}]}, "no AWS account"),
        ({"iotAnalytics": [{"identifier": "a", "iotChannel": "x"}]}, "AWS has ended IoT Analytics"),
        ({"http": [{"identifier": "h", "uri": "http://127.0.0.1:9/"}]}, "refused"),
    ],
)
async def test_an_export_that_cannot_be_says_why_and_keeps_its_messages(tmp_path, exports, trouble):
    async with exporting(tmp_path, None) as client:
        await client.create("s", exportDefinition=exports)
        await client.append("s", b"kept")
        status = await until(lambda: _failing(client))
        assert trouble in status["errorMessage"]
        assert status["lastExportedSequenceNumber"] == -1
        assert (await client.read("s"))["messages"][0]["payload"] == b"kept"


@pytest.mark.parametrize("formatted", [0, 1])
async def test_an_http_server_gets_messages_in_order_raw_or_as_json(tmp_path, formatted):
    bodies = []
    async with _http(bodies) as port, exporting(tmp_path, None) as client:
        export = {"identifier": "h", "uri": f"http://127.0.0.1:{port}/in", "exportFormat": formatted}
        await client.create("s", exportDefinition={"http": [export]})
        for data in (b"a", b"b"):
            await client.append("s", data)
        await exported_up_to(client, "s", 1)
    if formatted:
        assert [one["payload"] for body in bodies for one in json.loads(body)] == ["YQ==", "Yg=="]
    else:
        assert bodies == [b"a", b"b"]


@asynccontextmanager
async def _http(bodies):
    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:"
        )
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with serving(serve) as port:
        yield port


async def test_what_a_service_took_of_a_batch_is_not_sent_again():
    sent = []

    class Client:
        def put_records(self, *, StreamName, Records):  # noqa: N803 as AWS names them
            sent.append([record["Data"] for record in Records])
            refused = {b"1", b"3"} if len(sent) == 1 else set()
            code = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"}
            return {"Records": [code if record["Data"] in refused else {} for record in Records]}

    export = parse(Kinesis, {"identifier": "k", "kinesisStreamName": "x"})
    target = destinations.destination(export, "s", lambda _service: Client(), None, 0)
    messages = [StreamMessage(number, 0, str(number).encode()) for number in range(5)]
    done, trouble = await target.deliver(messages)
    assert (done, trouble) == (1, "ProvisionedThroughputExceededException: slow")
    assert await target.deliver(messages[1:]) == (4, "")
    assert sent == [[b"0", b"1", b"2", b"3", b"4"], [b"1", b"3"]]


async def test_sitewise_gets_entries_and_what_it_refuses_for_good_does_not_hold_up_the_rest():
    asked = []

    class Client:
        def batch_put_asset_property_value(self, *, entries):
            asked.append(entries)
            slow = [{"entryId": "1", "errors": [{"errorCode": "ThrottlingException", "errorMessage": "slow"}]}]
            never = [{"entryId": "2", "errors": [{"errorCode": "ResourceNotFoundException", "errorMessage": "none"}]}]
            return {"errorEntries": slow + never if len(asked) == 1 else []}

    target = destinations.destination(parse(SiteWise, {"identifier": "w"}), "s", lambda _service: Client(), None, 0)
    texts = [b'{"entryId":"same","propertyAlias":"/a"}'] * 3 + [b"no entry"]
    messages = [StreamMessage(number, 0, text) for number, text in enumerate(texts)]
    assert await target.deliver(messages) == (1, "ThrottlingException: slow")
    assert await target.deliver(messages[1:]) == (3, "")
    assert [[entry["entryId"] for entry in entries] for entries in asked] == [["0", "1", "2"], ["1"]]


def test_a_root_agent_opens_only_what_others_could(tmp_path, monkeypatch):
    monkeypatch.setattr(destinations.os, "geteuid", lambda: 0)
    file = tmp_path / "secret"
    file.write_bytes(b"s")
    file.chmod(0o600)
    if file.stat().st_uid == 0:
        with pytest.raises(InvalidInputError, match="not a file that components can read"):
            destinations._file(f"file://{file}")
    with pytest.raises(InvalidInputError, match="not a file that components can read"):
        destinations._file("file:///dev/null")
