import socket
import ssl

import pytest

from agent.mqtt import reasons
from agent.mqtt.reasons import connect_failed, connection_lost, connection_refused

ADDRESS = "broker:1883"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection-refused", "connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "closed", "it hung up (Connection reset by peer)"),
        (TimeoutError(), "timeout", "no answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "dns", "(Name or service not known)"),
        (OSError(101, "Network is unreachable"), "unreachable", "Network is unreachable"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version"), "tls", "TLS failed"),
        (ValueError(), "unreachable", "ValueError"),
    ],
)
def test_a_failed_attempt_is_explained(error: Exception, code: str, says: str):
    explained = connect_failed(error, ADDRESS)
    assert explained.code == code
    assert says in explained.message
    assert ADDRESS in explained.message
    assert explained.hint


def test_a_certificate_that_is_not_trusted_is_told_with_openssl_s_words():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    explained = connect_failed(error, ADDRESS)
    assert explained.code == "certificate"
    assert "certificate has expired" in explained.message


@pytest.mark.parametrize("reason", reasons._REFUSALS)
def test_each_refusal_says_what_happened_and_what_to_do(reason: int):
    explained = connection_refused(reason, "a name", ADDRESS)
    assert explained.code == reasons._REFUSALS[reason][0]
    assert ADDRESS in explained.message
    assert explained.hint


@pytest.mark.parametrize("reason", reasons._LOSSES)
def test_each_loss_says_what_happened_and_what_to_do(reason: int):
    explained = connection_lost(reason, "a name", ADDRESS)
    assert explained.code == reasons._LOSSES[reason][0]
    assert ADDRESS in explained.message
    assert explained.hint


def test_an_unknown_reason_is_told_by_its_name():
    assert "strange thing" in connection_refused(255, "Strange thing", ADDRESS).message
    assert "strange thing" in connection_lost(255, "Strange thing", ADDRESS).message
