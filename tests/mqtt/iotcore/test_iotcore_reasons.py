"""What goes wrong with IoT Core is told as a sentence with a hint."""

from __future__ import annotations

import _awscrt
import pytest

from agent.errors import NotConnectedError, PublishError
from agent.mqtt.iotcore import reasons

WHERE = "endpoint:8883"


@pytest.mark.parametrize("name", reasons._FAILURES)
def test_every_error_that_is_known_has_a_code_and_a_hint(name: str):
    for trouble in (reasons.connection_failed(name, "", WHERE), reasons.connection_lost(None, name, "", WHERE)):
        assert WHERE in trouble.message
        assert trouble.hint
        assert trouble.code == trouble.code.lower()


def test_every_error_that_is_known_is_one_of_awscrt():
    names = {_awscrt.get_error_name(code) for code in range(16 * 1024)}
    assert set(reasons._FAILURES) <= names


def test_an_error_that_is_not_known_is_told_in_awscrts_words():
    assert "the dog ate it" in reasons.connection_failed("AWS_DOG", "the dog ate it", WHERE).message
    assert "AWS_DOG" in reasons.connection_lost(None, "AWS_DOG", "", WHERE).message


@pytest.mark.parametrize(
    ("reason", "code"),
    [(142, "taken-over"), (139, "shutting-down"), (135, "not-authorized"), (150, "rate-exceeded")],
)
def test_a_disconnect_is_told_by_its_reason(reason: int, code: str):
    trouble = reasons.connection_lost(reason, "Some name", "", WHERE)
    assert trouble.code == code
    assert trouble.hint


@pytest.mark.parametrize(
    ("reason", "code"), [(135, "not-authorized"), (133, "client-id"), (137, "server-busy"), (200, "refused")]
)
def test_a_refused_connection_is_told_by_its_reason(reason: int, code: str):
    assert reasons.connection_refused(reason, "Some name", WHERE).code == code


def test_a_quota_passes_and_a_refusal_does_not():
    assert isinstance(reasons.publish_refused(151, "Quota exceeded", "t"), NotConnectedError)
    refused = reasons.publish_refused(135, "Not authorized", "t")
    assert isinstance(refused, PublishError)
    assert refused.code == "not-authorized"
    assert "'t'" in refused.message
    assert "some name" in reasons.publish_refused(200, "Some name", "t").message


def test_what_the_client_cannot_encode_is_refused_and_all_else_sent_again():
    assert isinstance(reasons.publish_failed("AWS_ERROR_MQTT5_PUBLISH_OPTIONS_VALIDATION", "bad", "t"), PublishError)
    assert isinstance(reasons.publish_failed("AWS_ERROR_MQTT_TIMEOUT", "late", "t"), NotConnectedError)
