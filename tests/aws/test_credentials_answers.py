"""What the IoT credentials provider's answers mean, and how long they hold."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.aws import answers
from agent.aws.answers import CredentialsRequest, Refusal
from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.errors import InvalidInputError, UnreachableError
from agent.greengrass.errors import TYPES
from tests.support.credentials_endpoint import EXPIRES, SECRET, TOKEN, body, refusal

NOW = (EXPIRES - timedelta(hours=1)).timestamp()
ASKER = CredentialsRequest("camera-7", "device-alias", "eu-west-1", "123456789012")
ARN = "arn:aws:iot:eu-west-1:123456789012:rolealias/device-alias"


def test_a_200_holds_credentials_whose_secrets_are_in_no_repr():
    told = answers.parse(200, body(), NOW)
    assert told == Credentials("ASIAROLE", SECRET, TOKEN, EXPIRES)
    assert SECRET not in repr(told)
    assert TOKEN not in repr(told)


@pytest.mark.parametrize(("left_s", "held_s"), [(3600, 3300), (301, 1), (300, 0), (60, -240)])
def test_credentials_hold_until_300_seconds_before_they_expire(left_s, held_s):
    now = EXPIRES.timestamp() - left_s
    assert answers.held_s(answers.parse(200, body(), now), now) == held_s


@pytest.mark.parametrize(
    ("status", "held_s"),
    [(399, 300), (400, 120), (404, 120), (499, 120), (500, 60), (599, 60), (600, 300), (302, 300), (204, 300)],
)
def test_a_refusal_holds_120_60_or_300_seconds(status, held_s):
    assert answers.held_s(Refusal(status, ""), NOW) == held_s


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (403, "Invalid thing name passed", ["attach the device's certificate to the thing camera-7"]),
        (403, "Access Denied", [f"iot:AssumeRoleWithCertificate on {ARN}"]),
        (403, "Certificate is invalid on this endpoint", ["activate", "iot:CredentialProvider"]),
        (404, "Role alias does not exist", ["create the role alias device-alias"]),
        (400, "Unable to assume the role, or the role to assume does not exist", ["credentials.iot.amazonaws.com"]),
        (400, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration", ["maximum session"]),
        (418, "", ["aws.role_alias"]),
    ],
)
def test_a_client_s_mistake_is_told_with_what_to_do(status, message, words):
    error = answers.refused(answers.parse(status, refusal(message), NOW), ASKER)
    assert isinstance(error, CredentialsError)
    assert isinstance(error, InvalidInputError)
    assert TYPES[error.code] == "PERMISSION_ERROR"
    assert f"camera-7 by the role alias device-alias: the endpoint answers {status}" in error.message
    assert message in error.message
    assert all(word in error.hint for word in words)


@pytest.mark.parametrize("status", [429, 500, 503, 302])
def test_a_server_s_trouble_is_tried_again(status):
    error = answers.refused(answers.parse(status, b"<html>no JSON</html>", NOW), ASKER)
    assert isinstance(error, CredentialsUnreachableError)
    assert isinstance(error, UnreachableError)
    assert TYPES[error.code] == "SERVER_ERROR"
    assert (error.status, error.answer) == (status, "<html>no JSON</html>")


@pytest.mark.parametrize("answer", [b"", b"{}", body()[:-30], body().replace(b"2030-01-01", b"tomorrow"), b"\xff"])
def test_what_are_no_credentials_is_told_without_being_shown(answer):
    with pytest.raises(CredentialsUnreachableError) as failure:
        answers.parse(200, answer, NOW)
    assert "hush" not in str(failure.value)
    assert failure.value.__suppress_context__


def test_credentials_that_expired_on_their_way_tell_of_the_clock():
    with pytest.raises(CredentialsUnreachableError, match="clock"):
        answers.parse(200, body(), EXPIRES.timestamp())


def test_a_long_or_wild_answer_is_cut_to_what_a_log_can_take():
    told = answers.parse(500, "☃\r\n\x1b[31m".encode() + b"x" * 9000, NOW)
    assert told.answer.isprintable()
    assert len(told.answer) <= 300


def test_the_role_alias_s_arn_is_as_exact_as_what_is_known():
    assert ASKER.arn == ARN
    assert CredentialsRequest("t", "a").arn == "arn:aws:iot:*:*:rolealias/a"
    assert CredentialsRequest("t", "a", "cn-north-1").arn.startswith("arn:aws-cn:")
