"""Who may deploy: the rule as a table, and signatures that are made and checked for real."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli.signing import PrivateKey, seal, seal_beside, with_claims
from agent.config.deployments import Accept
from agent.config.transports import MqttOptions, TlsOptions
from agent.errors import ConfigError
from agent.greengrass.trust.keys import PublicKey, trusted
from agent.greengrass.trust.policy import Link, LinkKind, decide
from agent.greengrass.trust.signatures import MAX_BYTES, NotTrustedError, SignedKind, open_document, recipe_signers
from agent.mqtt.strangers import StrangerReport, Strangers

KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "line 3")
STRANGER = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
KEYS = {KEY.public.id: KEY.public}
DOCUMENT = b'{"deploymentId": "d1",  "components": {"com.example.Model": {"version": "1.0.0"}}}'
NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)
RECIPE = b"RecipeFormatVersion: 2020-01-25\nComponentName: com.example.Model\n"


def opened(payload, *, thing="press-7", now=NOW, keys=KEYS):
    return open_document(payload, keys, thing=thing, now=now.timestamp())


# -- the rule ----------------------------------------------------------------------------------------------------------

FLAGS = (False, True)
TRIED = [StrangerReport(strangers, "as it was tried") for strangers in Strangers]
LINKS = [Link(*facts) for facts in product(LinkKind, FLAGS, FLAGS, FLAGS, TRIED)]


def taken_by_the_rule(link):
    if link.kind is not LinkKind.BROKER:
        return True
    if link.loopback:
        proven = {Strangers.KEPT_OUT} | ({Strangers.UNCLEAR} if link.tls else set())
        return link.client_authenticated and link.tried.strangers in proven
    return link.tls and link.client_authenticated


@pytest.mark.parametrize("accept", get_args(Accept))
@pytest.mark.parametrize("link", LINKS, ids=str)
def test_the_rule_says_of_every_link_who_may_deploy(link, accept):
    signed, unsigned = decide(link, "0123456789abcdef", accept), decide(link, None, accept)
    assert signed.accepted
    assert "0123456789abcdef" in signed.reason
    known = link.on_this_machine or link.tls
    assert unsigned.accepted is {
        "trusted-links": taken_by_the_rule(link), "signed": False,
        "anyone-on-this-broker": known or taken_by_the_rule(link), "anything-from-anyone": True,
    }[accept]  # fmt: skip
    assert unsigned.reason
    if not unsigned.accepted:
        assert "verge trust sign" in unsigned.hint
    asks = link.kind is LinkKind.BROKER and link.loopback and link.client_authenticated
    untried = asks and link.tried.strangers is Strangers.UNTRIED
    assert unsigned.pending is (untried and accept == "trusted-links")


@pytest.mark.parametrize("link", LINKS, ids=str)
def test_artifacts_need_digests_unless_an_unsigned_document_came_from_this_machine(link):
    here = link.loopback or link.kind is LinkKind.LOCAL
    assert {decide(link, "key", accept).digests for accept in get_args(Accept)} == {True}
    assert {decide(link, None, accept).digests for accept in get_args(Accept)} == {not here}


def test_a_broker_on_this_machine_is_refused_by_what_was_found_and_with_what_mends_it():
    asked = Link(LinkKind.BROKER, loopback=True, client_authenticated=True)
    let_in = replace(asked, tried=StrangerReport(Strangers.LET_IN, "a client without a name came through"))
    assert "mosquitto_passwd" in decide(replace(asked, client_authenticated=False), None, "trusted-links").hint
    assert "a client without a name came through" in decide(let_in, None, "trusted-links").reason
    assert "allow_anonymous false" in decide(let_in, None, "trusted-links").hint
    for link in (asked, let_in):
        assert 'accept = "anyone-on-this-broker"' in decide(link, None, "trusted-links").hint


def test_a_refusal_names_what_the_link_lacks():
    plain, anonymous = Link(LinkKind.BROKER), Link(LinkKind.BROKER, tls=True)
    assert "without TLS" in decide(plain, None, "trusted-links").reason
    assert "without a client certificate or password" in decide(anonymous, None, "trusted-links").reason


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
        ("192.168.0.4", False), ("::ffff:192.168.0.4", False), ("0.0.0.0", False), ("broker.lan", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
def test_only_an_address_of_this_machine_is_loopback(host, loopback):
    assert Link.of(MqttOptions(host=host)) == Link(LinkKind.BROKER, loopback)


@pytest.mark.parametrize(
    ("options", "tls", "authenticated"),
    [
        (MqttOptions(), False, False),
        (MqttOptions(username="u", password="p"), False, True),
        (MqttOptions(tls=TlsOptions()), True, False),
        (MqttOptions(tls=TlsOptions(cert_file="c", key_file="k")), True, True),
        (MqttOptions(tls=TlsOptions(), username="u", password_file="f"), True, True),
        (MqttOptions(tls=TlsOptions(insecure=True, cert_file="c", key_file="k")), False, True),
        (MqttOptions(tls=TlsOptions(), username="u"), True, False),
    ],
)
def test_what_a_connection_proves_is_read_from_its_configuration(options, tls, authenticated):
    link = Link.of(options)
    assert (link.tls, link.client_authenticated) == (tls, authenticated)


# -- documents ---------------------------------------------------------------------------------------------------------


def test_a_signed_document_comes_out_of_its_envelope_byte_by_byte():
    found = opened(seal(DOCUMENT, KEY))
    assert found.document == DOCUMENT
    assert found.signed_by == KEY.public


def test_a_signed_document_may_have_a_byte_order_mark_and_the_nul_of_c():
    written = b"\xef\xbb\xbf" + DOCUMENT + b"\r\n\0"
    found = opened(seal(written, KEY))
    assert (found.document, found.signed_by) == (written, KEY.public)


@pytest.mark.parametrize("payload", [DOCUMENT, b"", b"no json", b"[1]", b'{"a": ' * 100_000, b"\xff", b'"signatures"'])
def test_what_is_in_no_envelope_is_passed_on_as_it_came_and_unsigned(payload):
    assert opened(payload).document == payload
    assert opened(payload).signed_by is None


def test_a_strangers_signature_counts_as_none():
    assert opened(seal(DOCUMENT, STRANGER)).signed_by is None
    assert opened(seal(DOCUMENT, KEY), keys={}).signed_by is None
    assert opened(seal(DOCUMENT, STRANGER)).document == DOCUMENT


def test_a_strangers_signature_under_a_trusted_keys_name_is_refused():
    envelope = json.loads(seal(DOCUMENT, STRANGER))
    envelope["signatures"][0]["key"] = KEY.public.id
    with pytest.raises(NotTrustedError, match="does not fit the document"):
        opened(json.dumps(envelope).encode())


def test_one_signature_of_several_suffices_but_none_of_a_trusted_key_may_be_false():
    envelope, other = json.loads(seal(DOCUMENT, KEY)), json.loads(seal(DOCUMENT, STRANGER))
    both = {**envelope, "signatures": other["signatures"] + envelope["signatures"]}
    assert opened(json.dumps(both).encode()).signed_by == KEY.public
    forged = {"key": KEY.public.id, "signature": other["signatures"][0]["signature"]}
    with pytest.raises(NotTrustedError, match="does not fit"):
        opened(json.dumps({**envelope, "signatures": [*envelope["signatures"], forged]}).encode())


SEALED = seal(DOCUMENT, KEY)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_a_change_of_any_byte_is_refused_or_leaves_the_document_unsigned_or_untouched(random):
    for position in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[position] ^= random.randrange(1, 256)
        holds_only_what_was_signed(bytes(changed))


@given(st.integers(0, len(SEALED)), st.integers(0, 12), st.binary(max_size=12))
def test_what_is_cut_out_or_put_in_is_never_taken_for_signed(position, length, inserted):
    holds_only_what_was_signed(SEALED[:position] + inserted + SEALED[position + length :])


def holds_only_what_was_signed(payload):
    with suppress(NotTrustedError):
        found = opened(payload)
        assert found.signed_by is None or found.document == DOCUMENT


@given(st.binary(max_size=200) | st.from_regex(rb'\A\{"signatures":.{0,80}\}\Z', fullmatch=False))
def test_garbage_raises_nothing_but_our_own_error(payload):
    with suppress(NotTrustedError):
        assert opened(payload).signed_by is None
    with pytest.raises(NotTrustedError):
        recipe_signers(RECIPE, payload, KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"document": "***"},
        {"document": base64.b64encode(b" " * (MAX_BYTES + 1)).decode()},
        {"document": base64.b64encode(b"[]").decode()},
        {"document": base64.b64encode(b'{"a":' * 5000).decode()},
        {"signatures": []},
        {"signatures": json.loads(SEALED)["signatures"] * 17},
        {"signatures": [{"key": KEY.public.id, "signature": "short"}]},
        {"more": 1},
    ],
    ids=["no-base64", "large", "no-object", "deep", "none", "many", "short", "unknown-key"],
)
def test_an_envelope_that_is_none_is_refused(change):
    with pytest.raises(NotTrustedError):
        opened(json.dumps(json.loads(SEALED) | change).encode())


def test_base64_has_one_spelling():
    envelope = json.loads(SEALED)
    *_, last = padded = envelope["document"].rstrip("=")
    others = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter != last]
    assert len(padded) % 4, "the example has to end in a letter whose last bits mean nothing"
    for letter in others:
        with pytest.raises(NotTrustedError):
            opened(json.dumps({**envelope, "document": f"{padded[:-1]}{letter}".ljust(len(padded) + 1, "=")}).encode())


# -- for whom, and until when ------------------------------------------------------------------------------------------


def sealed(**claims):
    return seal(json.dumps(json.loads(DOCUMENT) | claims).encode(), KEY)


ARN = "arn:aws:greengrass:eu-west-1:123456789012:configuration:{}:3"


def test_a_document_for_this_thing_is_taken_and_for_another_refused():
    mine = seal(with_claims(DOCUMENT, "press-7", NOW + DAY, NOW), KEY)
    assert opened(mine).signed_by == KEY.public
    with pytest.raises(NotTrustedError, match="for the thing press-7, and this is press-8"):
        opened(mine, thing="press-8")
    assert opened(mine, thing=None).signed_by == KEY.public


def test_the_thing_in_a_greengrass_arn_counts_too_and_a_group_is_for_the_service_to_know():
    assert opened(sealed(configurationArn=ARN.format("thing/press-7"))).signed_by
    assert opened(sealed(configurationArn=ARN.format("thinggroup/presses"))).signed_by
    with pytest.raises(NotTrustedError, match="press-8"):
        opened(sealed(configurationArn=ARN.format("thing/press-8")))


@given(st.integers(-100_000, 100_000))
def test_a_document_is_taken_until_it_expires_and_not_later(seconds):
    payload = seal(with_claims(DOCUMENT, None, NOW, NOW), KEY)
    if seconds < 0:
        assert opened(payload, now=NOW + timedelta(seconds=seconds)).signed_by
    else:
        with pytest.raises(NotTrustedError, match="expired at 2026-11-22T00:00:00"):
            opened(payload, now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "claims", [{"expires": "tomorrow"}, {"expires": "2027-01-01T00:00:00"}, {"expires": 1}, {"thing": 7}]
)
def test_a_claim_that_cannot_be_read_is_refused(claims):
    with pytest.raises(NotTrustedError):
        opened(sealed(**claims))


@pytest.mark.parametrize("expires", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_time_are_times(expires):
    if expires.startswith("9"):
        assert opened(sealed(expires=expires)).signed_by
    else:
        with pytest.raises(NotTrustedError, match="expired"):
            opened(sealed(expires=expires))


def test_what_is_signed_can_be_told_from_what_is_newer():
    ours = json.loads(with_claims(DOCUMENT, None, None, NOW))
    assert ours == json.loads(DOCUMENT) | {"creationTimestamp": NOW.timestamp() * 1000}
    for key in ("creationTimestamp", "requestTimestamp"):
        assert json.loads(with_claims(json.dumps({key: 5}).encode(), None, None, NOW)) == {key: 5}


def test_claims_bind_even_when_nobody_trusted_signed_them():
    with pytest.raises(NotTrustedError, match="press-8"):
        opened(seal(with_claims(DOCUMENT, "press-8", None, NOW), STRANGER))


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_a_recipe_is_signed_beside_itself():
    sidecar = seal_beside(RECIPE, KEY)
    assert recipe_signers(RECIPE, sidecar, KEYS) == (KEY.public,)
    assert recipe_signers(RECIPE, seal_beside(RECIPE, STRANGER), KEYS) == ()
    with pytest.raises(NotTrustedError, match="does not fit the recipe"):
        recipe_signers(RECIPE + b" ", sidecar, KEYS)


def test_a_signature_under_a_recipe_is_worth_nothing_under_a_document():
    signatures = json.loads(seal_beside(DOCUMENT, KEY))["signatures"]
    envelope = {"document": base64.b64encode(DOCUMENT).decode(), "signatures": signatures}
    with pytest.raises(NotTrustedError, match="signed as something else"):
        opened(json.dumps(envelope).encode())
    with pytest.raises(NotTrustedError, match="signed as something else"):
        recipe_signers(DOCUMENT, json.dumps({"signatures": json.loads(SEALED)["signatures"]}).encode(), KEYS)


@given(st.sampled_from(SignedKind), st.binary(max_size=300))
def test_what_a_key_signed_it_verifies_and_no_other_key_does(kind, content):
    raw = base64.b64decode(KEY.sign(kind, content).signature)
    signed = f"verge {kind} 1\n".encode() + content
    assert KEY.public.verifies(raw, signed)
    assert not STRANGER.public.verifies(raw, signed)
    assert not KEY.public.verifies(raw, signed + b"\0")
    assert not KEY.public.verifies(raw[:-1], signed)


# -- keys --------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.text(st.characters(codec="ascii", categories=("L", "N", "P"))))
def test_a_public_key_reads_back_from_its_line(raw, comment):
    key = PublicKey(raw, comment[:128])
    assert PublicKey.parse(key.line) == key
    assert len(key.id) == 16


@pytest.mark.parametrize(
    "line",
    [
        "", "verge-ed25519", "verge-ed25519 AAAA", "ssh-ed25519 " + "A" * 43 + "=", "verge-ed25519 " + "A" * 43,
        "verge-ed25519 " + "A" * 43 + "= " + "x" * 129, "verge-ed25519 " + "A" * 43 + "= \x1b[2J",
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused_with_what_one_looks_like(line):
    with pytest.raises(ConfigError) as caught:
        PublicKey.parse(line)
    assert "verge-ed25519 BASE64 COMMENT" in caught.value.hint


def test_trusted_keys_are_lines_and_files_of_lines(tmp_path):
    (tmp_path / "more.pub").write_text(f"# who may deploy\n\n{STRANGER.public.line}\n")
    assert trusted([KEY.public.line, "more.pub"], tmp_path) == {key.public.id: key.public for key in (KEY, STRANGER)}
    assert trusted([], tmp_path) == {}


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "rubbish\n", "x" * 70_000])
def test_a_file_without_keys_is_refused_at_start(tmp_path, text):
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError):
        trusted(["keys"], tmp_path)


def test_cryptography_is_imported_by_the_first_signature_and_not_before():
    code = (
        "import sys\n"
        "from agent.greengrass.trust.signatures import open_document\n"
        "from agent.greengrass.trust.keys import PublicKey, trusted\n"
        "from pathlib import Path\n"
        f"keys = trusted([{KEY.public.line!r}], Path())\n"
        "open_document(b'{}', keys, thing='t', now=0)\n"
        "print('cryptography' in sys.modules, end=' ')\n"
        f"open_document({SEALED!r}, keys, thing='t', now=0)\n"
        "print('cryptography' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "True"]
