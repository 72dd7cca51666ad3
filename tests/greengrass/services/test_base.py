import asyncio
from contextlib import asynccontextmanager

from agent.errors import ConfigError
from agent.greengrass.services.base import Services


class Part:
    """Notes how it was configured; ``refused`` is what it cannot be."""

    def __init__(self, notes, name):
        self.notes, self.name = notes, name
        notes.append((name, "made"))

    async def apply(self, configuration):
        if configuration == {"bad": "input"}:
            raise ConfigError("it cannot be so")
        if configuration == {"bad": "code"}:
            raise KeyError("a fault")
        self.notes.append((self.name, configuration))


@asynccontextmanager
async def running(names=("a", "b")):
    notes, problems = [], {}
    services = Services({name: lambda name=name: Part(notes, name) for name in names}, problems.__setitem__)
    task = asyncio.create_task(services.run())
    try:
        yield services, notes, problems
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_service_is_made_when_its_component_is_deployed_and_lets_go_when_that_leaves():
    async with running() as (services, notes, _):
        services.follow({"a": {"x": 1}, "somebody.elses": {}})
        await services.settled()
        assert notes == [("a", "made"), ("a", {"x": 1})]
        assert services.get("a") is not None
        assert services.get("b") is None
        services.follow({"a": {"x": 1}})
        await services.settled()
        services.follow({"a": {"x": 2}})
        await services.settled()
        services.follow({})
        assert services.get("a") is None
        await services.settled()
        assert notes[2:] == [("a", {"x": 2}), ("a", None)]


async def test_one_that_cannot_be_says_so_and_the_others_are():
    async with running() as (services, notes, problems):
        services.follow({"a": {"bad": "input"}, "b": {}})
        await services.settled()
        assert problems["a"].message == "it cannot be so"
        assert ("b", {}) in notes
        services.follow({"a": {"bad": "code"}, "b": {}})
        await services.settled()
        assert "a fault" in problems["a"].message
        services.follow({"a": {"good": 1}, "b": {}})
        await services.settled()
        assert problems["a"] is None


async def test_one_that_never_was_as_configured_lets_go_too_and_its_problem_ends_with_its_component():
    async with running() as (services, notes, problems):
        services.follow({"a": {"bad": "input"}})
        await services.settled()
        assert problems["a"] is not None
        services.follow({})
        await services.settled()
        assert problems["a"] is None
        assert notes == [("a", "made"), ("a", None)]


async def test_one_that_cannot_be_made_says_so_until_its_component_leaves():
    problems = {}

    def broken():
        raise ConfigError("it cannot be made")

    services = Services({"a": broken}, problems.__setitem__)
    task = asyncio.create_task(services.run())
    services.follow({"a": {}})
    await services.settled()
    assert problems["a"].message == "it cannot be made"
    services.follow({})
    await services.settled()
    assert problems["a"] is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_every_service_lets_go_when_the_agent_ends():
    async with running() as (services, notes, _):
        services.follow({"a": {}, "b": {}})
        await services.settled()
    assert notes[-2:] == [("a", None), ("b", None)]
