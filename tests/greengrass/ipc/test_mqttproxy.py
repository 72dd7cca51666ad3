"""IoT Core's operations with Amazon's SDK, over a real broker."""

import base64
import json

import pytest

from agent.config.deployments import DeploymentOptions
from agent.greengrass.ipc.authorization import IOT_CORE, Authorizer
from agent.greengrass.ipc.mqttproxy import MqttProxy, is_control
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.trust.watch import control_topics
from agent.mqtt.client import MqttTransport
from agent.mqtt.transport import Message
from agent.topics import Topics
from tests.support.broker import Broker
from tests.support.cloud import plugin
from tests.support.inbox import connected
from tests.support.ipc import lines, raw, sdk, serving, shown

OPERATIONS = ["aws.greengrass#PublishToIoTCore", "aws.greengrass#SubscribeToIoTCore"]


def allowing(*resources):
    policy = {"operations": OPERATIONS, "resources": list(resources)}
    tree = Tree.of({"accessControl": {IOT_CORE: {"com.example:1": policy}}})
    return Authorizer(lambda _: tree)


@pytest.fixture
async def link(broker):
    async with MqttTransport("cloud", broker.options) as transport:
        await connected(transport)
        yield transport


@pytest.fixture
async def server(tmp_path, link):
    proxy = MqttProxy(link, allowing("*"), ["acme/press-7/deployments"])
    async with serving(tmp_path / "ipc.socket", proxy.operations) as running:
        yield running


def asked(topic, content=b"x", qos="1", **more):
    return {"topicName": topic, "qos": qos, "payload": base64.b64encode(content).decode()} | more


async def test_both_clients_of_the_sdk_publish_and_subscribe_with_all_properties(server, topic):
    said = await lines(
        server.path,
        f"""
        topic = {topic!r}
        client = GreengrassCoreIPCClientV2()
        got, enough = [], threading.Event()
        def on_event(event):
            one = event.message
            got.append([one.topic_name, one.payload.decode(), [[p.key, p.value] for p in one.user_properties or []],
                one.correlation_data and one.correlation_data.decode(), one.response_topic, one.payload_format,
                one.content_type, one.message_expiry_interval_seconds])
            if len(got) == 2:
                enough.set()
        client.subscribe_to_iot_core(topic_name=topic + "/+", qos="1", on_stream_event=on_event)
        client.publish_to_iot_core(topic_name=topic + "/a", qos="1", payload=b"whole",
            user_properties=[model.UserProperty(key="k", value="v"), model.UserProperty(key="k", value="w")],
            correlation_data=b"c", response_topic="r", payload_format="1", content_type="text/plain",
            message_expiry_interval_seconds=60)
        first = awsiot.greengrasscoreipc.connect()
        operation = first.new_publish_to_iot_core()
        operation.activate(model.PublishToIoTCoreRequest(topic_name=topic + "/b", qos="0", payload=b"bare"))
        operation.get_response().result(10)
        enough.wait(30)
        say(sorted(got))
        """,
    )
    assert said == [
        [[
            [f"{topic}/a", "whole", [["k", "v"], ["k", "w"]], "c", "r", "1", "text/plain", 60],
            [f"{topic}/b", "bare", [], None, None, None, None, None],
        ]]
    ]  # fmt: skip


async def test_filters_are_shared_upstream_and_each_stream_gets_a_message_once(server, link, topic):
    async with raw(server.path) as one, raw(server.path) as other:
        await one.connect()
        await other.connect("OTHER")
        for client, topic_filter in [(one, f"{topic}/#"), (one, f"{topic}/+"), (other, f"{topic}/#")]:
            response = await client.call("SubscribeToIoTCore", {"topicName": topic_filter, "qos": "1"})
            assert response == ("SubscribeToIoTCoreResponse", {})
        link.publish(Message(f"{topic}/a", b"once"))
        streams = {(await one.next()).headers[":stream-id"].value for _ in range(2)}
        assert streams == {1, 2}
        assert shown(await other.next())[1]["message"]["topicName"] == f"{topic}/a"
        link.publish(Message(f"{topic}/b/c", b"deeper"))
        only = await one.next()
        assert (only.headers[":stream-id"].value, shown(only)[1]["message"]["topicName"]) == (1, f"{topic}/b/c")


async def test_what_the_broker_refuses_to_serve_is_an_error_with_its_reason(tmp_path):
    rules = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    (tmp_path / "rules.json").write_text(json.dumps({"defaultACLAccess": rules}))
    lines = [f"plugin {plugin()}", f"plugin_opt_config_file {tmp_path / 'rules.json'}"]
    with Broker(lines=lines) as broker:
        async with MqttTransport("cloud", broker.options) as link:
            await connected(link)
            proxy = MqttProxy(link, allowing("*"))
            async with serving(tmp_path / "ipc.socket", proxy.operations) as running, raw(running.path) as client:
                await client.connect()
                model, said = await client.call("SubscribeToIoTCore", {"topicName": "a/+", "qos": "1"})
    assert (model, said["context"]) == ("ServiceError", {"reasonCode": 135, "reasonString": "Not authorized"})
    assert said["message"] == "the broker does not serve a/+: Not authorized"


@pytest.mark.parametrize(
    ("topic", "passes"),
    [
        ("a" * 256, True),
        ("a" * 257, False),
        ("/".join("abcdefgh"), True),
        ("/".join("abcdefghi"), False),
        ("$aws/rules/rule/" + "/".join("abcdefgh"), True),
        ("$aws/rules/rule/" + "/".join("abcdefghi"), False),
        ("a/+", False),
        ("", False),
    ],
)
async def test_a_topic_to_publish_to_is_within_the_limits_of_iot_core(server, topic, passes):
    async with raw(server.path) as client:
        await client.connect()
        model, _ = await client.call("PublishToIoTCore", asked(topic))
        assert model == ("PublishToIoTCoreResponse" if passes else "InvalidArgumentsError")


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        (asked("t", bytes(128 * 1024)), "PublishToIoTCoreResponse"),
        (asked("t", bytes(128 * 1024 + 1)), "ServiceError"),
        (asked("t", qos="2"), "InvalidArgumentsError"),
        (asked("t", messageExpiryIntervalSeconds=-1), "InvalidArgumentsError"),
        (asked("t", messageExpiryIntervalSeconds=2**32), "InvalidArgumentsError"),
        (asked("t", correlationData="A" * 4 * 30_000), "InvalidArgumentsError"),
        (asked("t", contentType="x" * 70_000), "InvalidArgumentsError"),
        (asked("t", responseTopic="é" * 40_000), "InvalidArgumentsError"),
        (asked("t", userProperties=[{"key": "a", "value": "\0"}]), "InvalidArgumentsError"),
        ({"topicName": "t", "payload": ""}, "InvalidArgumentsError"),
        ({"topicName": "t", "qos": "0"}, "InvalidArgumentsError"),
        ({"qos": "0", "payload": ""}, "InvalidArgumentsError"),
    ],
)
async def test_what_lacks_a_member_or_is_too_large_is_refused(server, request_, model):
    async with raw(server.path) as client:
        await client.connect()
        assert (await client.call("PublishToIoTCore", request_))[0] == model


CONTROL = [
    "verge/press-7/deployments",
    "verge/press-7/trust",
    "$aws/things/press-7/jobs/notify-next",
    "verge/aws/things/press-7/jobs/notify",
    "$aws/things/press-7/shadow/name/AWSManagedGreengrassV2Deployment/update",
    "acme/press-7/deployments",
    "acme/press-7/deployments/d1",
]


@pytest.mark.parametrize("topic", CONTROL)
async def test_what_the_agent_obeys_is_published_to_only_by_a_policy_that_names_it(server, link, tmp_path, topic):
    async with raw(server.path) as client:
        await client.connect()
        model, payload = await client.call("PublishToIoTCore", asked(topic))
        assert model == "UnauthorizedError"
        assert "a policy has to name it as it is" in payload["message"]
    named = MqttProxy(link, allowing("*", topic), ["acme/press-7/deployments"])
    async with serving(tmp_path / "named.socket", named.operations) as running, raw(running.path) as client:
        await client.connect()
        assert (await client.call("PublishToIoTCore", asked(topic, b"no document")))[0] == "PublishToIoTCoreResponse"


async def test_without_a_link_to_iot_core_the_error_says_what_to_set(tmp_path):
    proxy = MqttProxy(None, allowing("*"))
    async with serving(tmp_path / "ipc.socket", proxy.operations) as running, raw(running.path) as client:
        await client.connect()
        for operation, request in [("PublishToIoTCore", asked("t")), ("SubscribeToIoTCore", asked("t"))]:
            model, payload = await client.call(operation, request)
            assert model == "ServiceError"
            assert 'iot_core = "broker"' in payload["message"]


async def test_the_state_of_the_link_comes_at_once_and_when_it_changes(tmp_path):
    with Broker() as broker:
        async with MqttTransport("cloud", broker.options) as link:
            await connected(link)
            proxy = MqttProxy(link, allowing())
            async with serving(tmp_path / "ipc.socket", proxy.operations) as running:
                script = """
                client = GreengrassCoreIPCClientV2()
                client.subscribe_to_iot_core_connection_status(
                    on_stream_event=lambda event: say(event.connection_status_event.status))
                said()
                """
                async with sdk(running.path, script) as client:
                    assert await client.next() == ["CONNECTED"]
                    broker.stop()
                    assert await client.next() == ["DISCONNECTED"]
                    broker.start()
                    assert await client.next() == ["CONNECTED"]


def test_the_agent_obeys_on_topics_that_follow_its_own_prefixes():
    options = DeploymentOptions(aws_prefix="acme/sites/north/aws")
    own = control_topics(Topics("press-7", "acme/{thing}"), "press-7", options)
    for topic in (
        "acme/press-7/deployments",
        "acme/press-7/trust",
        "acme/sites/north/aws/things/press-7/jobs/notify-next",
        "acme/sites/north/aws/things/press-7/shadow/name/AWSManagedGreengrassV2Deployment/update/delta",
    ):
        assert is_control(topic, own)
        assert not is_control(topic)
    assert not is_control("acme/press-7/deploymentsx", own)
