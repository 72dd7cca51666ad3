"""The socket with real clients: Amazon's SDK in processes of its own, and raw ones that misbehave."""

import asyncio
import contextlib
import stat
import struct
import zlib

import pytest
from msgspec import Struct

from agent.config.ipc import IpcOptions
from agent.errors import ConfigError
from agent.eventstream.frames import int32
from agent.eventstream.rpc import RpcType
from agent.greengrass.ipc.errors import ConflictError, ResourceNotFoundError
from agent.greengrass.ipc.operations import Empty, Operation
from agent.greengrass.ipc.server import Server
from tests.support.ipc import COMPONENT, TOKEN, control, lines, raw, sdk, serving, shown
from tests.support.until import until


class Asked(Struct, frozen=True, rename="camel"):
    component_name: str = ""


class Topic(Struct, frozen=True):
    topic: str


class Board:
    """Operations whose handlers the test holds."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.closed = 0

    def details(self, request, call):
        if request.component_name == "missing":
            raise ResourceNotFoundError.of("Component", "missing")
        if request.component_name == "conflict":
            raise ConflictError("not modelled here")
        if request.component_name == "fault":
            raise KeyError("a fault of ours")
        return {"componentDetails": {"componentName": call.caller.name, "version": "1.0.0", "state": "RUNNING"}}

    async def slowly(self, request, call):
        await self.gate.wait()
        return {"components": []}

    def subscribe(self, request, call):
        self.calls.append(call)
        call.send({"binaryMessage": {"message": b"before", "context": {"topic": request.topic}}})

        def closed():
            self.closed += 1

        call.on_close(closed)
        return {"topicName": request.topic}

    @property
    def operations(self):
        return [
            Operation("GetComponentDetails", Asked, self.details),
            Operation("ListComponents", Empty, self.slowly),
            Operation("SubscribeToTopic", Topic, self.subscribe),
        ]


@pytest.fixture
async def board():
    return Board()


@pytest.fixture
async def server(tmp_path, board):
    options = IpcOptions(max_streams=8, max_clients=4, max_client_bytes=100_000, max_bytes=1 << 20)
    async with serving(tmp_path / "ipc.socket", board.operations, options) as running:
        yield running


LONG_PRELUDE = struct.pack(">III", 1 << 24, 0, zlib.crc32(struct.pack(">II", 1 << 24, 0)))


async def test_both_clients_of_the_sdk_are_answered(server):
    said = await lines(
        server.path,
        """
        client = GreengrassCoreIPCClientV2()
        say(client.get_component_details(component_name="x").component_details.component_name)
        say(failure(client.get_component_details, component_name="missing"))
        say(failure(client.get_component_details, component_name="conflict"))
        say(failure(client.get_component_details, component_name="fault"))
        say(failure(client.restart_component, component_name="x"))
        first = awsiot.greengrasscoreipc.connect()
        operation = first.new_get_component_details()
        operation.activate(model.GetComponentDetailsRequest(component_name="x"))
        say(operation.get_response().result(10).component_details.component_name)
        """,
    )
    assert said == [
        [COMPONENT],
        [["ResourceNotFoundError", "there is no Component missing"]],
        [["ServiceError", "not modelled here"]],
        [["ServiceError", "the agent could not do it: see its log"]],
        [["ServiceError", "RestartComponent is not served here"]],
        [COMPONENT],
    ]


async def test_events_follow_the_response_until_the_client_has_enough(server, board):
    script = """
    client = GreengrassCoreIPCClientV2()
    enough = threading.Event()
    def on_event(event):
        say(event.binary_message.message.decode(), event.binary_message.context.topic)
        if event.binary_message.message == b"last":
            enough.set()
    response, operation = client.subscribe_to_topic(topic="a/b", on_stream_event=on_event)
    say(response.topic_name)
    enough.wait(60)
    operation.close()
    said()
    """
    async with sdk(server.path, script) as client:
        said = [await client.next(), await client.next()]
        assert sorted(said) == [["a/b"], ["before", "a/b"]]  # the client has a thread for each
        for content in (b"after", b"last"):
            board.calls[0].send({"binaryMessage": {"message": content, "context": {"topic": "a/b"}}})
        assert [await client.next(), await client.next()] == [["after", "a/b"], ["last", "a/b"]]
        await until(lambda: board.closed == 1)


async def test_who_has_no_token_of_ours_is_refused(server):
    said = await lines(server.path, "say(failure(awsiot.greengrasscoreipc.connect))", token="somebody else's")
    assert said[0][0][0] == "AccessDeniedError"
    assert server.status.refused == 1


async def test_everyone_may_connect_to_the_socket_and_it_goes_with_the_server(tmp_path):
    path = tmp_path / "ipc.socket"
    async with serving(path, []):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not path.exists()


async def test_a_socket_that_a_killed_agent_left_is_replaced_and_another_file_is_not(tmp_path):
    path = tmp_path / ("long" * 25) / "ipc.socket"
    path.parent.mkdir()
    async with Server(path, lambda _: None, []), Server(path, lambda _: None, []):
        pass
    path.write_text("mine")
    with pytest.raises(ConfigError, match="something else is there"):
        await Server(path, lambda _: None, []).__aenter__()
    assert path.read_text() == "mine"


async def test_a_request_that_takes_long_holds_up_no_other(server, board):
    async with raw(server.path) as client:
        await client.connect()
        await client.request("ListComponents")
        assert (await client.call("GetComponentDetails"))[0] == "GetComponentDetailsResponse"
        board.gate.set()
        assert shown(await client.next()) == ("ListComponentsResponse", {"components": []})


async def test_a_connection_has_so_many_streams_and_no_more(server):
    async with raw(server.path) as client:
        await client.connect()
        for _ in range(8):
            await client.request("ListComponents")
        model, payload = await client.call("ListComponents")
        assert (model, payload["message"]) == ("ServiceError", "there are 8 streams on this connection already")


async def test_there_are_so_many_connections_and_no_more(server):
    async with raw(server.path) as one, raw(server.path) as two, raw(server.path) as three, raw(server.path) as four:
        for client in (one, two, three, four):
            assert (await client.connect()).headers[":message-flags"] == int32(1)
        async with raw(server.path) as fifth:
            assert await fifth.closed()
        assert (await one.call("GetComponentDetails"))[0] == "GetComponentDetailsResponse"


async def test_a_client_that_does_not_read_loses_its_connection_and_no_other_does(server, board):
    async with raw(server.path) as slow, raw(server.path) as other:
        await slow.connect()
        await other.connect()
        assert (await slow.call("SubscribeToTopic", {"topic": "t"}))[0] == "SubscribeToTopicResponse"
        while not server.status.closed:
            board.calls[0].send({"binaryMessage": {"message": bytes(50_000)}})
        assert server.status.closed == {"it does not read what it is sent": 1}
        await until(lambda: board.closed == 1)
        assert (await other.call("GetComponentDetails"))[0] == "GetComponentDetailsResponse"


async def test_what_all_connections_hold_of_incomplete_messages_is_bounded(server):
    async with raw(server.path) as greedy:
        await greedy.connect()
        await greedy.send(LONG_PRELUDE)
        with contextlib.suppress(ConnectionError):
            for _ in range(1 << 10):
                await greedy.send(bytes(1 << 16))
        await until(lambda: not server.connected)
    assert server.held == 0


async def test_a_broken_protocol_is_answered_and_ends_the_connection(server):
    async with raw(server.path) as client:
        await client.connect()
        await client.send(control(RpcType.CONNECT_ACK))
        assert (await client.next()).headers[":message-type"] == int32(RpcType.PROTOCOL_ERROR)
        assert await client.closed()


async def test_a_client_that_goes_in_the_middle_leaves_nothing(server, board):
    async with raw(server.path) as client:
        await client.connect(TOKEN)
        await client.call("SubscribeToTopic", {"topic": "t"})
        await client.request("ListComponents")
        await until(lambda: server.status.requests == 2)
    await until(lambda: not server.connected)
    assert board.closed == 1
    board.calls[0].send({"binaryMessage": {"message": b"nobody there"}})
    late = []
    board.calls[0].on_close(lambda: late.append("at once"))
    assert late == ["at once"]


async def test_a_request_that_cannot_be_read_is_answered_so(server):
    async with raw(server.path) as client:
        await client.connect()
        model, payload = await client.call("SubscribeToTopic", {"topic": 7})
        assert model == "InvalidArgumentsError"
        assert "topic" in payload["_message"]
        assert payload["_errorCode"] == "InvalidArgumentsError"
