import asyncio

from agent.greengrass.services.streams.gate import Gate
from tests.support.until import until


async def test_of_those_who_wait_the_most_urgent_goes_first_and_who_gives_up_takes_no_place():
    gate, entered, leave = Gate(1), [], asyncio.Event()

    async def enter(priority, name):
        async with gate.turn(priority):
            entered.append(name)
            await leave.wait()

    tasks = {name: asyncio.create_task(enter(priority, name)) for name, priority in
             {"first": 10, "late": 9, "urgent": 1, "quitter": 1, "later": 9}.items()}  # fmt: skip
    await until(lambda: entered == ["first"])
    tasks["quitter"].cancel()
    leave.set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert entered == ["first", "urgent", "late", "later"]
