"""Deployments that ask components: subscriptions, waits and their ends, in real time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.deployments.handshake import (
    Handshake,
    NothingPendingError,
    PostUpdate,
    PreUpdate,
    ProposedConfiguration,
    UnaskedError,
)
from agent.greengrass.deployments.request import LOCAL_NOTIFY, NotifyPolicy
from agent.greengrass.deployments.waiting import Waiting, WaitingKind
from agent.greengrass.errors import DeploymentError
from tests.support.until import until

LONG = NotifyPolicy()
SHORT = replace(LONG, update_timeout_s=0.05)


class Party:
    """A component that keeps what it is sent, and answers with ``answers``, the last of them for ever."""

    def __init__(self, handshake: Handshake, name: str, *answers: float | None) -> None:
        self.handshake, self.name, self.answers = handshake, name, list(answers)
        self.events: list[object] = []
        self.times: list[float] = []
        self.close = handshake.subscribe_updates(name, self.take)

    def take(self, event) -> None:
        self.events.append(event)
        self.times.append(asyncio.get_running_loop().time())
        if isinstance(event, PreUpdate) and self.answers:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.handshake.defer(self.name, event.deployment_id, answer, f"{self.name} is busy")


def quick() -> Handshake:
    return Handshake(pause_s=0.001, settle_s=0.05)


async def ask(handshake: Handshake, policy: NotifyPolicy = LONG, **how) -> tuple[list[Waiting], float]:
    """What was waited for, and for how long."""
    said: list[Waiting] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20):
        await handshake.ask("d1", policy, said.append, **how)
    return said, loop.time() - began


async def test_where_nobody_has_subscribed_nothing_is_waited_for() -> None:
    handshake = quick()
    assert not handshake.asks("d1", LONG)
    assert (await ask(handshake))[0] == []


async def test_every_subscriber_is_asked_and_a_deployment_goes_on_when_all_agree() -> None:
    handshake = quick()
    parties = [Party(handshake, name, 0) for name in ("a", "b")]
    assert handshake.asks("d1", LONG)
    await ask(handshake, restarting=True)
    assert [party.events for party in parties] == [[PreUpdate("d1", restarting=True)]] * 2


async def test_a_policy_that_skips_asks_nobody_and_says_nothing_at_the_end() -> None:
    handshake = quick()
    party = Party(handshake, "a", 60_000)
    assert not handshake.asks("d1", LOCAL_NOTIFY)
    await ask(handshake, LOCAL_NOTIFY)
    handshake.updated("d1")
    assert party.events == []


async def test_the_end_is_said_once_to_whoever_has_subscribed_by_then() -> None:
    handshake = quick()
    await ask(handshake)
    party = Party(handshake, "a")
    handshake.updated("another")
    handshake.updated("d1")
    handshake.updated("d1")
    assert party.events == [PostUpdate("d1")]


async def test_after_the_longest_deferral_all_are_asked_again() -> None:
    handshake = quick()
    late, early = Party(handshake, "late", 80, 0), Party(handshake, "early", 10, 0)
    said, took_s = await ask(handshake)
    assert took_s >= 0.08
    assert [len(party.events) for party in (late, early)] == [2, 2]
    assert (said[-1].kind, said[-1].what) == (WaitingKind.COMPONENTS, "component late")
    assert said[-1].reason == "it deferred the deployment: late is busy"
    assert said[-1].next_attempt is not None


async def test_between_two_times_of_asking_is_a_pause_however_little_is_deferred() -> None:
    handshake = Handshake(pause_s=0.05)
    party = Party(handshake, "a", 1, 1, 0)
    await ask(handshake)
    gaps = [two - one for one, two in zip(party.times, party.times[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.05


@pytest.mark.parametrize("answers", [(), (None,)], ids=["no answer", "an answer without a time"])
async def test_who_does_not_say_when_is_waited_for_until_the_time_limit(answers) -> None:
    handshake = quick()
    Party(handshake, "a", *answers)
    said, took_s = await ask(handshake, SHORT)
    assert took_s >= SHORT.update_timeout_s
    assert [(waiting.what, waiting.until is not None) for waiting in said] == [("component a", True)]


async def test_with_no_time_to_answer_components_are_asked_and_not_waited_for() -> None:
    handshake = quick()
    party = Party(handshake, "a")
    await ask(handshake, replace(LONG, update_timeout_s=0))
    assert party.events == [PreUpdate("d1", restarting=False)]
    with pytest.raises(NothingPendingError):
        handshake.defer("a", "d1", 5)


async def test_who_closes_its_last_stream_is_waited_for_no_longer() -> None:
    handshake = quick()
    first, second = Party(handshake, "a"), Party(handshake, "a")
    asking = asyncio.create_task(ask(handshake))
    await until(lambda: first.events)
    first.close()
    await asyncio.sleep(0)
    assert not asking.done()
    second.close()
    second.close()
    await asking


async def test_one_answer_counts_for_a_component_whichever_of_its_streams_it_is_to() -> None:
    handshake = quick()
    streams = [Party(handshake, "a"), Party(handshake, "a")]
    asking = asyncio.create_task(ask(handshake))
    await until(lambda: all(stream.events for stream in streams))
    handshake.defer("a", "d1", 0)
    with pytest.raises(NothingPendingError, match="no answer of a to deployment d1 is waited for"):
        handshake.defer("a", "d1", 0)
    await asking


async def test_an_answer_of_somebody_who_has_not_subscribed_or_to_another_deployment_is_refused() -> None:
    handshake = quick()
    party = Party(handshake, "a")
    asking = asyncio.create_task(ask(handshake))
    await until(lambda: party.events)
    with pytest.raises(UnaskedError, match="stranger has not subscribed to component updates"):
        handshake.defer("stranger", "d1", 0)
    with pytest.raises(NothingPendingError):
        handshake.defer("a", "another", 0)
    handshake.defer("a", "d1", 0)
    await asking
    with pytest.raises(NothingPendingError):
        handshake.defer("a", "d1", 0)


async def test_what_a_component_says_is_passed_on_harmless_and_short() -> None:
    handshake = quick()
    party = Party(handshake, "a")
    said: list[Waiting] = []
    asking = asyncio.create_task(handshake.ask("d1", LONG, said.append))
    await until(lambda: party.events)
    handshake.defer("a", "d1", 60_000, "\x1b[2J" + "x" * 5000)
    await until(lambda: len(said) > 1)
    assert said[-1].reason.startswith("it deferred the deployment: \\x1b[2Jxxx")
    assert len(said[-1].reason) < 300
    asking.cancel()


async def test_the_time_until_components_are_asked_again_can_be_used() -> None:
    handshake = quick()
    Party(handshake, "a", 60_000, 0)
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    await ask(handshake, rest=rest)
    assert [59 < seconds <= 60 for seconds in rests] == [True]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([None, 0, 5, 60_000]), max_size=2), min_size=1, max_size=3),
    st.integers(0, 6),
)
def test_an_ask_that_is_cancelled_at_any_moment_leaves_nothing(parties, turns) -> None:
    async def scenario() -> None:
        handshake = quick()
        members = [Party(handshake, str(number), *answers) for number, answers in enumerate(parties)]
        asking = asyncio.create_task(ask(handshake))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for member in members:
            with pytest.raises(NothingPendingError):
                handshake.defer(member.name, "d1", 60_000)
            member.answers, member.events = [0], []
        # All are asked anew, and nothing that was deferred before holds the next one.
        await ask(handshake)
        assert [member.events for member in members] == [[PreUpdate("d1", restarting=False)]] * len(members)

    asyncio.run(scenario())


# -- configurations ----------------------------------------------------------------------------------------------------

PROPOSED = {"a": {"level": 1}, "b": {"level": 2}}


class Validator:
    """A component that keeps what it is asked about, and reports if it is to."""

    def __init__(self, handshake: Handshake, name: str, *, accepted: bool | None = None, message: str = "") -> None:
        self.asked: list[ProposedConfiguration] = []

        def take(event: ProposedConfiguration) -> None:
            self.asked.append(event)
            if accepted is not None:
                handshake.report(name, event.deployment_id, message, accepted=accepted)

        self.close = handshake.subscribe_validation(name, take)


async def validate(handshake: Handshake, timeout_s: float = 20.0, proposed=PROPOSED) -> list[Waiting]:
    said: list[Waiting] = []
    await handshake.validate("d1", proposed, timeout_s, said.append)
    return said


async def test_only_components_with_a_new_configuration_that_subscribed_are_asked_about_it() -> None:
    handshake = quick()
    asked, other = Validator(handshake, "a", accepted=True), Validator(handshake, "c", accepted=False)
    assert handshake.validates("d1", PROPOSED)
    assert not handshake.validates("d1", {"x": {}})
    assert await validate(handshake) == []
    assert (asked.asked, other.asked) == ([ProposedConfiguration("d1", {"level": 1})], [])
    assert await validate(handshake, proposed={"x": {}}) == []


async def test_a_configuration_that_is_rejected_ends_the_deployment_with_the_components_own_words() -> None:
    handshake = quick()
    Validator(handshake, "a", accepted=True)
    Validator(handshake, "b", accepted=False, message="level is at most 1")
    with pytest.raises(DeploymentError, match="b rejected it: level is at most 1") as error:
        await validate(handshake)
    assert (error.value.code, error.value.hint) == (
        "COMPONENT_CONFIGURATION_NOT_VALID",
        "deploy a configuration that they accept",
    )


async def test_who_does_not_report_in_time_has_not_accepted() -> None:
    handshake = quick()
    Validator(handshake, "a")
    with pytest.raises(DeploymentError, match="a did not report in time"):
        await validate(handshake, 0.05)
    with pytest.raises(UnaskedError, match="no report of a on deployment d1 is waited for"):
        handshake.report("a", "d1", accepted=True)


async def test_who_leaves_before_it_reports_has_not_accepted() -> None:
    handshake = quick()
    validator = Validator(handshake, "a")
    validating = asyncio.create_task(validate(handshake))
    await until(lambda: validator.asked)
    validator.close()
    with pytest.raises(DeploymentError, match="a was gone before it reported"):
        await validating


async def test_a_report_on_another_deployment_or_of_somebody_who_was_not_asked_is_refused() -> None:
    handshake = quick()
    validator = Validator(handshake, "a")
    validating = asyncio.create_task(validate(handshake))
    await until(lambda: validator.asked)
    for component, deployment in (("a", "another"), ("b", "d1")):
        with pytest.raises(UnaskedError):
            handshake.report(component, deployment, accepted=False)
    handshake.report("a", "d1", accepted=True)
    said = [(waiting.what, waiting.reason) for waiting in await validating]
    assert said == [("component a", "asked whether its new configuration is good")]


# -- after an agent that was killed over it ----------------------------------------------------------------------------


async def test_who_was_asked_before_the_agent_ended_is_given_the_time_to_subscribe_again() -> None:
    handshake = quick()
    handshake.expect("d1")
    assert (handshake.asks("d1", LONG), handshake.asks("d2", LONG)) == (True, False)
    asking = asyncio.create_task(ask(handshake))
    await asyncio.sleep(0.02)
    assert not asking.done()
    first = Party(handshake, "a", 0)
    await asyncio.sleep(0.01)
    second = Party(handshake, "b", 0)
    said, _ = await asking
    assert first.events == second.events == [PreUpdate("d1", restarting=False)]
    assert said[0].reason == "the agent ended while they were asked, and they have not subscribed again"


async def test_a_component_that_judged_before_the_agent_ended_is_given_that_time_too() -> None:
    handshake = quick()
    handshake.expect("d1")
    assert (handshake.validates("d1", PROPOSED), handshake.validates("d1", {})) == (True, False)
    validating = asyncio.create_task(validate(handshake))
    await asyncio.sleep(0.02)
    other = Validator(handshake, "c", accepted=False)
    await asyncio.sleep(0.02)
    assert not validating.done()
    Validator(handshake, "a", accepted=False, message="no")
    with pytest.raises(DeploymentError, match="a rejected it: no"):
        await validating
    assert other.asked == []


async def test_who_does_not_come_back_holds_a_deployment_for_the_policys_time_alone() -> None:
    handshake = quick()
    handshake.expect("d1")
    _, took_s = await ask(handshake, SHORT)
    assert took_s >= SHORT.update_timeout_s
    assert len(await validate(handshake, 0.05)) == 1
