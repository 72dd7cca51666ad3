"""Local publish and subscribe with Amazon's SDK and with a raw client."""

import pytest

from agent.greengrass.ipc.errors import UnauthorizedError
from agent.greengrass.ipc.pubsub import LocalBus, LocalMessage, PubSub
from tests.support.ipc import COMPONENT, TOKEN, lines, raw, serving, shown


def permit(call, service, resource):
    assert service == "aws.greengrass.ipc.pubsub"
    if resource.startswith("forbidden"):
        raise UnauthorizedError(f"{call.caller.name} may not {call.operation} {resource}")


@pytest.fixture
def bus():
    return LocalBus()


@pytest.fixture
async def server(tmp_path, bus):
    async with serving(tmp_path / "ipc.socket", PubSub(bus, permit).operations) as running:
        yield running


async def test_both_clients_of_the_sdk_publish_and_subscribe(server):
    said = await lines(
        server.path,
        """
        client = GreengrassCoreIPCClientV2()
        got, enough = [], threading.Event()
        def on_event(event):
            one = event.json_message or event.binary_message
            got.append([one.context.topic, one.message if event.json_message else one.message.decode()])
            if len(got) == 4:
                enough.set()
        client.subscribe_to_topic(topic="a/+", receive_mode="RECEIVE_ALL_MESSAGES", on_stream_event=on_event)
        binary = lambda content: model.PublishMessage(binary_message=model.BinaryMessage(message=content))
        client.publish_to_topic(topic="a/b", publish_message=binary(b"bytes"))
        client.publish_to_topic(topic="a/c/d", publish_message=binary(b"not for us"))
        whole = {"n": 1, "f": 1.5, "deep": {"null": None}}
        client.publish_to_topic(topic="a/c", publish_message=model.PublishMessage(
            json_message=model.JsonMessage(message=whole)))
        client.publish_to_topic(topic="a/large", publish_message=binary(b"x" * 1_000_000))
        first = awsiot.greengrasscoreipc.connect()
        operation = first.new_publish_to_topic()
        operation.activate(model.PublishToTopicRequest(topic="a/v1", publish_message=binary(b"of the first client")))
        operation.get_response().result(10)
        enough.wait(30)
        got[2][1] = len(got[2][1])
        say(got)
        say(failure(client.publish_to_topic, topic="a/#", publish_message=binary(b""))[0])
        say(failure(client.publish_to_topic, topic="a/*", publish_message=binary(b""))[0])
        say(failure(client.publish_to_topic, topic=None, publish_message=binary(b""))[0])
        say(failure(client.publish_to_topic, topic="a", publish_message=None)[0])
        say(failure(client.publish_to_topic, topic="a", publish_message=model.PublishMessage())[0])
        say(failure(client.publish_to_topic, topic="forbidden", publish_message=binary(b"")))
        say(failure(client.subscribe_to_topic, topic="forbidden", on_stream_event=on_event)[0])
        say(failure(client.subscribe_to_topic, topic="", on_stream_event=on_event)[0])
        """,
    )
    assert said[0] == [
        [["a/b", "bytes"], ["a/c", {"n": 1, "f": 1.5, "deep": {"null": None}}], ["a/large", 1_000_000],
         ["a/v1", "of the first client"]]
    ]  # fmt: skip
    assert [one[0] for one in said[1:6]] == ["InvalidArgumentsError"] * 5
    assert said[6] == [["UnauthorizedError", f"{COMPONENT} may not PublishToTopic forbidden"]]
    assert [one[0] for one in said[7:]] == ["UnauthorizedError", "InvalidArgumentsError"]


async def publish(client, topic, content="eA=="):
    return await client.call(
        "PublishToTopic", {"topic": topic, "publishMessage": {"binaryMessage": {"message": content}}}
    )


@pytest.mark.parametrize(
    ("topic_filter", "mode", "own", "others"),
    [
        ("t", None, True, True),
        ("#", None, False, True),
        ("t", "RECEIVE_MESSAGES_FROM_OTHERS", False, True),
        ("#", "RECEIVE_ALL_MESSAGES", True, True),
    ],
)
async def test_who_gets_its_own_messages(server, bus, topic_filter, mode, own, others):
    async with raw(server.path) as client, raw(server.path) as other:
        await client.connect(TOKEN)
        await other.connect("OTHER")
        asked = {"topic": topic_filter} | ({"receiveMode": mode} if mode else {})
        assert await client.call("SubscribeToTopic", asked) == ("SubscribeToTopicResponse", {"topicName": topic_filter})
        await publish(other, "t", "b3RoZXJz")
        got = [shown(await client.next())] if others else []
        await client.request("PublishToTopic", {"topic": "t", "publishMessage": {"binaryMessage": {"message": "b3du"}}})
        got += [shown(await client.next()) for _ in range(1 + own)]
    contents = [payload["binaryMessage"]["message"] for model, payload in got if model == "SubscriptionResponseMessage"]
    assert contents == ["b3RoZXJz"] * others + ["b3du"] * own


async def test_a_stream_gets_a_message_once_and_each_stream_does(server):
    async with raw(server.path) as client:
        await client.connect("OTHER")
        for topic in ("t", "+", "t"):
            await client.call("SubscribeToTopic", {"topic": topic})
        async with raw(server.path) as publisher:
            await publisher.connect(TOKEN)
            await publish(publisher, "t")
        streams = {(await client.next()).headers[":stream-id"].value for _ in range(3)}
        assert streams == {1, 2, 3}


async def test_a_json_message_is_an_object_and_stays_as_it_is(server):
    async with raw(server.path) as client:
        await client.connect()
        await client.call("SubscribeToTopic", {"topic": "t"})
        for wrong in ([1], "text", 7):
            asked = {"topic": "t", "publishMessage": {"jsonMessage": {"message": wrong}}}
            assert (await client.call("PublishToTopic", asked))[0] == "InvalidArgumentsError"
        await client.request(
            "PublishToTopic", {"topic": "t", "publishMessage": {"jsonMessage": {"message": {"n": 10**30}}}}
        )
        (model, payload), _ = sorted([shown(await client.next()), shown(await client.next())], reverse=True)
        assert (model, payload["jsonMessage"]) == (
            "SubscriptionResponseMessage", {"message": {"n": 10**30}, "context": {"topic": "t"}},
        )  # fmt: skip


async def test_the_agents_own_services_publish_and_listen(server, bus):
    heard = []
    close = bus.subscribe("$aws/#", heard.append)
    async with raw(server.path) as client:
        await client.connect()
        await publish(client, "$aws/things/t/shadow/get")
        assert heard == [LocalMessage("$aws/things/t/shadow/get", b"x", publisher=COMPONENT)]
        await client.call("SubscribeToTopic", {"topic": "#"})
        bus.publish(LocalMessage("$aws/accepted", b'{"a": 1}', is_json=True))
        assert shown(await client.next())[1] == {
            "jsonMessage": {"message": {"a": 1}, "context": {"topic": "$aws/accepted"}}
        }
    close()
    bus.publish(LocalMessage("$aws/accepted", b"nobody"))
    assert len(heard) == 2
