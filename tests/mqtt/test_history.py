"""What a link's losses look like."""

from __future__ import annotations

import pytest

from agent.errors import BrokerUnreachableError
from agent.mqtt.history import LinkHistory


def lost(code: str = "connection-closed") -> BrokerUnreachableError:
    return BrokerUnreachableError(f"lost the connection: {code}", code=code)


def after(*lasted: float, client_id: str = "press-7", code: str = "connection-closed", failing: int = 0) -> LinkHistory:
    """The history of a link whose connections lasted so long, each followed by so many failing attempts."""
    history, now = LinkHistory(client_id), 0.0
    history.up(now)
    for seconds in lasted:
        now += seconds
        history.down(lost(code), now)
        for _ in range(failing):
            history.down(lost("connection-refused"), now)
        history.up(now)
    return history


def test_as_long_as_nothing_happened_nothing_is_told():
    history = LinkHistory("press-7")
    history.up(0.0)
    assert history.facts() == {}


def test_reconnects_are_counted_and_the_last_trouble_stays():
    history = after(5000.0, 7000.0, code="keepalive-timeout")
    assert history.facts() == {
        "reconnects": 2,
        "trouble": {
            "code": "keepalive-timeout",
            "reason": "lost the connection: keepalive-timeout",
            "at": "1970-01-01T03:20:00.000Z",
        },
    }


def test_what_the_broker_says_of_a_second_client_is_told_at_once():
    assert "'press-7': give each a client_id of its own" in after(5000.0, code="taken-over").guess
    assert "the same client id" in after(5000.0, client_id="", code="taken-over").guess


def test_connections_that_the_broker_ends_soon_and_takes_again_at_once_look_like_a_second_client():
    guess = after(0.4, 3.0, 20.0).facts()["guess"]
    assert guess.startswith("perhaps another client connects with the client id 'press-7'")


@pytest.mark.parametrize(
    "history",
    [
        after(0.4, 3.0),
        after(0.4, 3.0, 3600.0),
        after(0.4, 3.0, 20.0, failing=1),
        after(0.4, 3.0, 20.0, code="keepalive-timeout"),
        after(0.4, 3.0, 20.0, client_id=""),
    ],
    ids=["too few", "one held", "the broker was away", "the network was away", "the broker chooses the id"],
)
def test_other_losses_look_like_nothing(history):
    assert history.guess == ""


def test_a_guess_is_news_once_and_withdrawn_when_a_connection_holds():
    history, news = after(0.4, 3.0, 20.0), []
    for number in range(3):
        news.append(history.news())
        history.down(lost(), 30.0 + number)
        news.append(history.news())
        history.up(30.0 + number)
    assert [bool(told) for told in news] == [True, False, False, False, False, False]
    history.down(lost(), 10_000.0)
    history.up(10_000.0)
    assert (history.guess, history.news()) == ("", "")
