"""An agent that is killed again and again, also while it replays: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import defaultdict
from pathlib import Path

from agent.mqtt.factory import create
from agent.mqtt.outbox.record import ID
from tests.support.broker import Broker
from tests.support.inbox import Inbox, connected, subscribed
from tests.support.wire import Wire

KILLS = int(os.environ.get("VERGE_KILLS", "10"))
"""VERGE_KILLS=2000 takes half an hour."""
PATIENCE_S = 120.0

CHILD = """
import asyncio, os, sys
from pathlib import Path
from agent.mqtt.transport import Message
from agent.mqtt.factory import create
from agent.config.transports import MqttOptions
from agent.config.transports import OutboxOptions

port, folder, topic, number = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

async def main():
    options = MqttOptions(port=port, backoff_base_s=0.02, backoff_cap_s=0.1, outbox=OutboxOptions())
    async with create("agent", options, folder=folder) as outbox:
        if number < 0:
            while not outbox.state.connected or outbox.status.depth:
                await asyncio.sleep(0.01)
            return
        for n in range(number, number + 100_000):
            outbox.publish(
                Message(f"{topic}/{n % 3}", b"%d" % n, 1),
                lambda error, n=n: error is None and os.write(1, b"%d\\n" % n),
            )
            if n % 20 == 19:
                await asyncio.sleep(0.004)

asyncio.run(main())
"""


async def run_child(port: int, folder: Path, topic: str, number: int, acknowledged: set[int], life_s: float) -> None:
    """Start an agent, note what it was told is kept, and kill it ``life_s`` after it was told first."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(port), str(folder), topic, str(number), stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert child.stdout is not None
    end: asyncio.TimerHandle | None = None
    async with asyncio.timeout(PATIENCE_S):
        while line := await child.stdout.readline():
            if end is None:
                end = asyncio.get_running_loop().call_later(life_s, child.kill)
            if line.endswith(b"\n"):
                acknowledged.add(int(line))
        assert await child.wait() == (0 if number < 0 else -9)


async def test_whatever_was_acknowledged_arrives_in_order_and_twice_only_with_the_same_id(
    broker: Broker, wire: Wire, topic: str, tmp_path: Path
):
    chance = random.Random(1)
    acknowledged: set[int] = set()
    async with create("receiver", broker.options) as receiver:
        inbox = Inbox()
        await connected(receiver)
        receiver.subscribe(f"{topic}/+", inbox, qos=1)
        await subscribed(receiver, f"{topic}-mark")
        for kill in range(KILLS):
            if chance.random() < 0.3:
                wire.cut()
            else:
                wire.mend()
            await run_child(wire.port, tmp_path, topic, kill * 100_000, acknowledged, chance.random() * 0.4)
        wire.mend()
        await run_child(wire.port, tmp_path, topic, -1, acknowledged, PATIENCE_S)
        await inbox.until(lambda messages: acknowledged <= {int(message.payload) for message in messages}, PATIENCE_S)
    first_seen: dict[str, list[int]] = defaultdict(list)
    identity: dict[int, str] = {}
    for message in inbox.messages:
        number, (found,) = int(message.payload), [value for key, value in message.user_properties if key == ID]
        if number not in identity:
            first_seen[message.topic].append(number)
        assert identity.setdefault(number, found) == found
    assert len(set(identity.values())) == len(identity)
    assert len(acknowledged) > 20 * KILLS
    for numbers in first_seen.values():
        assert numbers == sorted(numbers)
