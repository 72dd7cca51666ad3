import asyncio
import stat
from contextlib import asynccontextmanager

import pytest

from agent.errors import UnreachableError
from agent.greengrass.errors import DeploymentError
from agent.greengrass.services.streams.manager import StreamManager
from agent.greengrass.services.streams.options import options_of
from tests.support.stream_client import APPEND, DELETE, DESCRIBE, LIST, READ, UPDATE, connected

ANY_PORT = {"STREAM_MANAGER_SERVER_PORT": "0"}


@asynccontextmanager
async def manager(folder, **configuration):
    service = StreamManager(folder, {"token": "my.component"}.get)
    await service.apply(ANY_PORT | configuration)
    try:
        yield service
    finally:
        await service.apply(None)


def payloads(answer):
    assert answer["status"] == 0, answer
    return [(one["sequenceNumber"], one["payload"]) for one in answer["messages"]]


async def test_the_handshake_answers_with_the_versions_and_who_the_client_is(tmp_path):
    async with manager(tmp_path) as service, connected(service.port, None) as client:
        answer = await client.connect("token", protocolVersion="9.9", otherSupportedProtocolVersions=["1.0.0"])
        assert (answer["status"], answer["protocolVersion"], answer["clientIdentifier"]) == (0, "1.0.0", "my.component")
        assert answer["supportedProtocolVersions"] == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"token": "wrong"}, 2),
        ({"token": None}, 2),
        ({"token": "token", "lead": 7}, 8),
        ({"token": "token", "operation": 4}, 9),
        ({"token": "token", "protocolVersion": "9.9"}, 10),
        ({"token": "token", "protocolVersion": None}, 11),
    ],
)
async def test_a_handshake_that_cannot_be_is_refused_with_its_status_and_the_connection_ends(tmp_path, how, status):
    async with manager(tmp_path) as service, connected(service.port, None) as client:
        assert (await client.connect(**how))["status"] == status
        assert await client.reader.read() == b""


async def test_any_process_may_be_a_client_where_authentication_is_off(tmp_path):
    async with (
        manager(tmp_path, STREAM_MANAGER_AUTHENTICATE_CLIENT="false") as service,
        connected(service.port, None) as client,
    ):
        assert (await client.connect(None))["status"] == 0


async def test_messages_are_numbered_from_0_and_read_from_where_is_asked(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        assert (await client.create("s"))["status"] == 0
        assert [(await client.append("s", data))["sequenceNumber"] for data in (b"a", b"b", b"c")] == [0, 1, 2]
        assert payloads(await client.read("s")) == [(0, b"a")]
        read = await client.read("s", desiredStartSequenceNumber=1, minMessageCount=1, maxMessageCount=9)
        assert payloads(read) == [(1, b"b"), (2, b"c")]
        assert (await client.read("s", minMessageCount=4, maxMessageCount=9))["status"] == 13
        assert (await client.read("s", minMessageCount=4, maxMessageCount=2))["status"] == 3
        assert (await client.ask(LIST))["streams"] == ["s"]
        info = (await client.ask(DESCRIBE, name="s"))["messageStreamInfo"]
        assert info["storageStatus"] == {"oldestSequenceNumber": 0, "newestSequenceNumber": 2, "totalBytes": 3}
        assert info["definition"]["maxSize"] == 268435456


async def test_a_read_that_waits_is_answered_by_the_append_behind_it(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("s")
        reading = client.send(READ, streamName="s", readMessagesOptions={"readTimeoutMillis": 30000})
        appending = client.send(APPEND, name="s", payload=b"late")
        answers = {answer["requestId"]: answer for _, answer in [await client.receive(), await client.receive()]}
        assert answers[appending]["sequenceNumber"] == 0
        assert payloads(answers[reading]) == [(0, b"late")]


async def test_many_appends_at_once_keep_their_order(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("s")
        sent = [client.send(APPEND, name="s", payload=str(number).encode()) for number in range(300)]
        answers = [(await client.receive())[1] for _ in sent]
        assert {one["requestId"]: one["sequenceNumber"] for one in answers} == {name: i for i, name in enumerate(sent)}


async def test_a_full_stream_rejects_or_drops_its_oldest_as_it_is_defined(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("rejects", maxSize=1024)
        await client.create("drops", maxSize=1024, strategyOnFull=1)
        for name in ("rejects", "drops"):
            assert [(await client.append(name, b"x" * 512))["status"] for _ in range(2)] == [0, 0]
            assert (await client.append(name, b"x" * 1025))["status"] == 4
        assert (await client.append("rejects", b"y"))["status"] == 1
        assert (await client.append("drops", b"y"))["sequenceNumber"] == 2
        status = (await client.ask(DESCRIBE, name="drops"))["messageStreamInfo"]["storageStatus"]
        assert status == {"oldestSequenceNumber": 1, "newestSequenceNumber": 2, "totalBytes": 513}
        assert payloads(await client.read("drops")) == [(1, b"x" * 512)]


async def test_what_cannot_be_is_answered_with_its_status_and_why(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("s")
        answers = [
            await client.create("s"),
            await client.create("a/b"),
            await client.create("t", maxSize=10),
            await client.append("none", b"x"),
            await client.append("s", b""),
            await client.ask(UPDATE, definition={"name": "s", "strategyOnFull": 0, "persistence": 1}),
            await client.ask(99),
        ]
        assert [one["status"] for one in answers] == [3, 3, 3, 5, 3, 17, 18]
        assert "$.name" in answers[1]["errorMessage"]
        assert (await client.ask(DELETE, name="s"))["status"] == 0
        assert (await client.ask(DELETE, name="s"))["status"] == 5


@pytest.mark.parametrize("data", [b"\x01\xff\xff\xff\xff", b"\x01\x7f\xff\xff\xff", b"\x01\x00\x00\x00\x02\x01\xff"])
async def test_bytes_that_are_no_frame_cost_their_connection_alone(tmp_path, data):
    async with manager(tmp_path) as service, connected(service.port) as good:
        async with connected(service.port, None) as bad:
            bad.writer.write(data)
            assert await bad.reader.read() == b""
        assert (await good.ask(LIST))["status"] == 0


async def test_streams_on_disk_outlive_a_new_deployment_and_those_in_memory_do_not(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("disk", flushOnWrite=True)
        await client.create("memory", persistence=1)
        for name in ("disk", "memory"):
            assert (await client.append(name, b"kept"))["status"] == 0
    async with manager(tmp_path) as service, connected(service.port) as client:
        assert (await client.ask(LIST))["streams"] == ["disk"]
        assert payloads(await client.read("disk")) == [(0, b"kept")]
        assert (await client.append("disk", b"next"))["sequenceNumber"] == 1


async def test_the_store_is_its_owners_alone_and_one_that_is_damaged_is_set_aside(tmp_path):
    async with manager(tmp_path):
        assert stat.S_IMODE((tmp_path / "streams.db").stat().st_mode) == 0o600
    (tmp_path / "streams.db").write_bytes(b"no database " * 1000)
    async with manager(tmp_path) as service, connected(service.port) as client:
        assert (await client.ask(LIST))["streams"] == []
    assert list(tmp_path.glob("streams.db.broken-*"))


async def test_a_port_that_is_taken_is_an_error_to_come_back_to(tmp_path):
    service = StreamManager(tmp_path / "b", {}.get)
    async with manager(tmp_path / "a") as other:
        with pytest.raises(UnreachableError, match="cannot have port"):
            await service.apply({"STREAM_MANAGER_SERVER_PORT": other.port})
    await service.apply(ANY_PORT)
    await service.apply(None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("STREAM_MANAGER_SERVER_PORT", "no"),
        ("STREAM_MANAGER_SERVER_PORT", 70000),
        ("STREAM_MANAGER_SERVER_PORT", True),
        ("STREAM_MANAGER_STORE_ROOT_DIR", "relative"),
        ("STREAM_MANAGER_AUTHENTICATE_CLIENT", "perhaps"),
    ],
)
async def test_a_configuration_that_cannot_be_names_the_member_and_what_runs_goes_on(tmp_path, key, value):
    with pytest.raises(DeploymentError) as caught:
        options_of({key: value})
    assert (caught.value.code, caught.value.path) == ("COMPONENT_CONFIGURATION_NOT_VALID", key)
    async with manager(tmp_path) as service:
        with pytest.raises(DeploymentError):
            await service.apply({key: value})
        async with connected(service.port) as client:
            assert (await client.ask(LIST))["status"] == 0


async def test_a_client_that_leaves_while_it_waits_costs_nothing(tmp_path):
    async with manager(tmp_path) as service:
        async with connected(service.port) as client:
            await client.create("s")
            client.send(READ, streamName="s", readMessagesOptions={"readTimeoutMillis": 60000})
            await client.writer.drain()
        async with asyncio.timeout(10):
            await service.apply(None)
        assert service.port is None


async def test_a_client_that_reads_no_answers_does_not_keep_the_service_from_stopping(tmp_path):
    async with manager(tmp_path) as service, connected(service.port) as client:
        await client.create("s")
        for _ in range(8):
            await client.append("s", b"x" * 1024 * 1024)
        for _ in range(100):
            client.send(READ, streamName="s", readMessagesOptions={"maxMessageCount": 8})
        await client.writer.drain()
        async with asyncio.timeout(10):
            await service.apply(None)
        assert service.port is None
