"""Shadows with Amazon's SDK: both clients, every error of the model, and the topics of local publish and subscribe."""

import pytest

from agent.greengrass.ipc.errors import UnauthorizedError
from agent.greengrass.ipc.pubsub import LocalBus, LocalMessage, PubSub
from agent.greengrass.ipc.shadows import Shadows
from agent.greengrass.services.shadows.manager import ShadowManager
from tests.support.ipc import lines, serving

GENEROUS = {"rateLimits": {"maxLocalRequestsPerSecondPerThing": 1000, "maxTotalLocalRequestsRate": 1000}}


def permit(call, service, resource):
    if "forbidden" in resource:
        raise UnauthorizedError(f"{call.caller.name} may not {call.operation} {resource}")


@pytest.fixture
async def server(tmp_path):
    bus = LocalBus()
    manager = ShadowManager(
        tmp_path / "shadows.db", "press-7", lambda topic, payload: bus.publish(LocalMessage(topic, payload))
    )
    await manager.apply(GENEROUS)

    async def ready():
        return manager

    operations = (*Shadows(ready, permit).operations, *PubSub(bus, lambda *_: None).operations)
    async with serving(tmp_path / "ipc.socket", operations) as running:
        yield running
    await manager.apply(None)


async def test_a_shadow_is_made_got_listed_and_deleted_by_both_clients(server):
    said = await lines(
        server.path,
        """
        client = GreengrassCoreIPCClientV2()
        body = lambda **what: json.dumps(what).encode()
        update = lambda **what: client.update_thing_shadow(thing_name="press-7", shadow_name="n", payload=body(**what))
        told = json.loads(update(state={"desired": {"a": 1}}).payload)
        say(told["version"], told["state"], sorted(told["metadata"]["desired"]["a"]))
        first = awsiot.greengrasscoreipc.connect()
        operation = first.new_get_thing_shadow()
        operation.activate(model.GetThingShadowRequest(thing_name="press-7", shadow_name="n"))
        got = json.loads(operation.get_response().result(10).payload)
        say(got["state"], got["version"])
        say(client.list_named_shadows_for_thing(thing_name="press-7").results)
        say(failure(update, state={"desired": {"a": 2}}, version=7))
        say(json.loads(update(state={"reported": {"a": 1}}, version=1).payload)["version"])
        say(client.delete_thing_shadow(thing_name="press-7", shadow_name="n").payload.decode())
        say(failure(client.get_thing_shadow, thing_name="press-7", shadow_name="n"))
        say(failure(client.get_thing_shadow, thing_name="press-7")[0])
        say(failure(client.get_thing_shadow, thing_name="not one!")[0])
        say(failure(client.get_thing_shadow, thing_name="")[0])
        say(failure(client.update_thing_shadow, thing_name="press-7", shadow_name="n", payload=b"{")[0])
        say(failure(client.get_thing_shadow, thing_name="press-7", shadow_name="forbidden")[0])
        say(failure(client.list_named_shadows_for_thing, thing_name="press-7", page_size=101)[0])
        say(failure(client.list_named_shadows_for_thing, thing_name="forbidden")[0])
        """,
    )
    assert said[:3] == [
        [1, {"desired": {"a": 1}}, ["timestamp"]],
        [{"desired": {"a": 1}, "delta": {"a": 1}}, 1],
        [["n"]],
    ]
    assert said[3][0][0] == "ConflictError"
    assert said[4:6] == [[2], [""]]
    assert said[6] == [["ResourceNotFoundError", "No shadow exists with name: n"]]
    assert [one[0] for one in said[7:]] == [
        "ResourceNotFoundError",
        "InvalidArgumentsError",
        "InvalidArgumentsError",
        "InvalidArgumentsError",
        "UnauthorizedError",
        "InvalidArgumentsError",
        "UnauthorizedError",
    ]


async def test_what_becomes_of_a_shadow_is_told_on_its_local_topics(server):
    said = await lines(
        server.path,
        """
        client = GreengrassCoreIPCClientV2()
        got, enough = [], threading.Event()
        def on_event(event):
            one = event.binary_message
            got.append([one.context.topic.partition("/shadow/")[2], json.loads(one.message)])
            if len(got) == 5:
                enough.set()
        client.subscribe_to_topic(topic="$aws/things/press-7/shadow/#", on_stream_event=on_event)
        payload = json.dumps({"state": {"desired": {"a": 1}}, "clientToken": "mine"}).encode()
        client.update_thing_shadow(thing_name="press-7", payload=payload)
        client.get_thing_shadow(thing_name="press-7")
        failure(client.update_thing_shadow, thing_name="press-7", payload=b'{"state": 7}')
        enough.wait(30)
        say(sorted(topic for topic, _ in got))
        say([told.get("clientToken") for topic, told in got if topic == "update/accepted"])
        """,
    )
    assert said == [
        [["get/accepted", "update/accepted", "update/delta", "update/documents", "update/rejected"]],
        [["mine"]],
    ]


async def test_without_the_shadow_manager_it_is_said_what_to_deploy(tmp_path):
    async def nobody():
        return None

    async with serving(tmp_path / "ipc.socket", Shadows(nobody, permit).operations) as running:
        script = 'say(failure(GreengrassCoreIPCClientV2().get_thing_shadow, thing_name="press-7"))'
        said = await lines(running.path, script)
    assert said == [[["ServiceError", "there are no local shadows here: deploy aws.greengrass.ShadowManager"]]]
