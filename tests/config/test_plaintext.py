"""Passwords over links that anybody can read."""

from __future__ import annotations

import pytest

from agent.config.secrets import check_plaintext, loopback
from agent.errors import ConfigError


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_this_machine_is_no_link_that_others_can_read(host) -> None:
    assert loopback(host)
    check_plaintext("local", host, tls=False, password=True, allowed=False)


@pytest.mark.parametrize(
    "host", ["broker.local", "10.0.0.1", "localhost.evil.example", "127.0.0.1.example", "::2", "0.0.0.0", ""]
)
def test_a_password_in_the_clear_is_refused_with_the_way_out(host) -> None:
    assert not loopback(host)
    with pytest.raises(ConfigError) as refused:
        check_plaintext("site", host, tls=False, password=True, allowed=False)
    assert refused.value.code == "plaintext-password"
    assert "transports.site" in refused.value.message
    assert "allow_plaintext_password = true" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "how",
    [
        {"tls": True, "password": True, "allowed": False},
        {"tls": False, "password": False, "allowed": False},
        {"tls": False, "password": True, "allowed": True},
    ],
)
def test_tls_no_password_or_the_named_exception_is_fine(how) -> None:
    check_plaintext("site", "10.0.0.1", **how)
