"""A device gets its identity, by claim or from files, wholly or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import agent
from agent.aws.provision import enroll
from agent.aws.provision.enroll import Claim, Enrollment, by_claim, configuration, from_files
from agent.aws.provision.errors import ProvisioningError, ProvisioningUnreachableError
from agent.aws.provision.home import Home
from agent.aws.provision.keys import certificate_facts, new_key
from agent.aws.provision.prove import prove
from agent.config.load import load
from agent.mqtt.client import MqttTransport
from agent.mqtt.transport import Message
from tests.support import certs
from tests.support.cloud import Cloud
from tests.support.inbox import Inbox, connected, delivered, subscribed
from tests.support.iot_policy import Connection, Policy
from tests.support.mosquitto_acl import access
from tests.support.provisioning import CSR, KEYS, REGISTER

CONFIGS = Path(agent.__file__).parents[1] / "configs"
SERIAL = {"SerialNumber": "17"}


def wish(site, folder, **more) -> Enrollment:
    folder.mkdir(exist_ok=True)
    home = Home(folder / "identity")
    broker = site.cloud.broker
    return Enrollment(folder / "verge.toml", home, "127.0.0.1", broker.port, site.cloud.certificates.ca, **more)


def claim(site, **more) -> Claim:
    at = site.cloud.certificates
    return Claim(at.client_cert, at.client_key, "verge", **({"parameters": SERIAL} | more))


def left(folder) -> list[str]:
    """Every file there is."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


async def test_a_claim_becomes_a_thing_with_a_configuration_that_runs(site, tmp_path) -> None:
    done = await by_claim(wish(site, tmp_path / "etc"), claim(site))
    config = load(done.config, {})
    cloud = config.transports["cloud"]
    assert (config.thing, cloud.endpoint, cloud.port) == ("thing-17", "127.0.0.1", site.cloud.broker.port)
    assert cloud.cert_file == str(tmp_path / "etc/identity/current/certificate.pem")
    assert str(done.proof) == "connected, subscribed to verge/thing-17/deployments/get and published there"
    topics = [topic for topic, _ in site.service.asked]
    assert topics == ["$aws/certificates/create-from-csr/json", "$aws/provisioning-templates/verge/provision/json"]
    assert site.service.asked[1][1]["parameters"] == SERIAL


async def test_the_private_key_never_leaves_the_device(site, tmp_path) -> None:
    heard = Inbox()
    site.operator.subscribe("$aws/#", heard, qos=1)
    await subscribed(site.operator, "ready")
    done = await by_claim(wish(site, tmp_path / "etc"), claim(site))
    secret = done.pair.key.read_bytes().splitlines()[1]
    assert heard.messages
    assert not any(secret in message.payload or b"PRIVATE KEY" in message.payload for message in heard.messages)


async def test_the_service_can_make_the_key_where_that_is_wanted(site, tmp_path) -> None:
    done = await by_claim(wish(site, tmp_path / "etc"), claim(site, their_key=True))
    assert site.service.asked[0][0] == "$aws/certificates/create/json"
    assert b"PRIVATE KEY" in done.pair.key.read_bytes()


async def test_only_the_owner_can_read_an_identity(site, tmp_path) -> None:
    before = os.umask(0o000)
    try:
        done = await by_claim(wish(site, tmp_path / "etc"), claim(site))
    finally:
        os.umask(before)
    home = tmp_path / "etc" / "identity"
    assert home.stat().st_mode & 0o777 == 0o700
    assert done.pair.folder.resolve().stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in done.pair.folder.iterdir()} == {0o600}
    assert done.config.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("step", "rejection", "kind", "told", "hint"),
    [
        (CSR, (400, "InvalidCertificateSigningRequest", "bad CSR"), ProvisioningError, "bad CSR", "claim's policy"),
        (REGISTER, (400, "InvalidParameters", "SerialNumber"), ProvisioningError, "SerialNumber", "--parameter"),
        (REGISTER, (404, "ResourceNotFound", "no such"), ProvisioningError, "ResourceNotFound (404)", "--template"),
        (REGISTER, (403, "AccessDenied", "hook said no"), ProvisioningError, "hook said no", "hook"),
        (REGISTER, (429, "ThrottlingException", "slow"), ProvisioningUnreachableError, "cannot do it now", "wait"),
        (REGISTER, (500, "InternalError", "oops"), ProvisioningUnreachableError, "oops", "later"),
    ],
)
async def test_what_the_service_refuses_is_a_sentence_and_leaves_nothing(
    site, tmp_path, step, rejection, kind, told, hint
) -> None:
    site.service.rejects[step] = rejection
    with pytest.raises(kind) as refused:
        await by_claim(wish(site, tmp_path / "etc"), claim(site))
    assert told in refused.value.message
    assert hint in refused.value.hint
    assert left(tmp_path / "etc") == []


async def test_an_ownership_token_that_expired_says_to_begin_anew(site, tmp_path, monkeypatch) -> None:
    original = site.service._register
    monkeypatch.setattr(site.service, "_register", lambda *told: (site.service.expire_tokens(), original(*told)))
    with pytest.raises(ProvisioningError, match="Token expired") as refused:
        await by_claim(wish(site, tmp_path / "etc"), claim(site))
    assert refused.value.hint == "the token holds for an hour: provision again from the start"
    monkeypatch.undo()
    assert (await by_claim(wish(site, tmp_path / "etc"), claim(site))).thing == "thing-17"


@pytest.mark.parametrize("step", [CSR, KEYS, REGISTER])
async def test_silence_is_told_with_what_the_policy_has_to_allow(site, tmp_path, step) -> None:
    site.service.silent.add(step)
    with pytest.raises(ProvisioningUnreachableError, match=f"{step}/json within") as unreachable:
        await by_claim(wish(site, tmp_path / "etc"), claim(site, their_key=step == KEYS), timeout_s=1.0)
    assert "iot:Subscribe" in unreachable.value.hint
    assert left(tmp_path / "etc") == []


class _PlugPulled(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("place", ["new_key", "request", "check_pair", "prove", "write_atomically", "configuration"])
async def test_an_interruption_at_any_step_leaves_nothing_half_written(site, tmp_path, monkeypatch, place) -> None:
    folder = tmp_path / "etc"

    def pulled(*_args, **_more):
        raise _PlugPulled

    wanted = wish(site, folder)
    monkeypatch.setattr(enroll, place, pulled)
    with pytest.raises(_PlugPulled):
        await by_claim(wanted, claim(site))
    monkeypatch.undo()
    assert not wanted.config.exists()
    done = await by_claim(wanted, claim(site))
    facts = certificate_facts(done.pair.certificate.read_bytes())
    assert done.facts == facts
    assert load(done.config, {}).thing == "thing-17"


async def test_what_a_killed_attempt_left_goes_with_the_next(site, tmp_path) -> None:
    wanted = wish(site, tmp_path / "etc")
    home = tmp_path / "etc/identity"
    home.mkdir(mode=0o700)
    for name in (".new-1", "of-somebody-else"):
        (home / name).mkdir()
        (home / name / "private.key").write_text("half")
    (home / ".new-current").symlink_to(".new-1")
    await by_claim(wanted, claim(site))
    assert {each.name for each in home.iterdir() if not each.is_symlink()} >= {"of-somebody-else"}
    assert not [each for each in home.iterdir() if each.name.startswith(".new-")]


async def test_a_folder_that_others_can_look_into_is_not_used(site, tmp_path) -> None:
    wanted = wish(site, tmp_path / "etc")
    (tmp_path / "etc/identity").mkdir(mode=0o755)
    with pytest.raises(ProvisioningError) as refused:
        await by_claim(wanted, claim(site))
    assert refused.value.code == "identity-exposed"
    assert "--identity" in refused.value.hint


async def test_a_configuration_is_replaced_only_when_told_so(site, tmp_path) -> None:
    first = await by_claim(wish(site, tmp_path / "etc"), claim(site))
    kept = first.config.read_bytes(), first.pair.certificate.read_bytes()
    with pytest.raises(ProvisioningError) as refused:
        await by_claim(wish(site, tmp_path / "etc"), claim(site))
    assert (refused.value.code, len(site.service.asked)) == ("config-exists", 2)
    assert kept == (first.config.read_bytes(), first.pair.certificate.read_bytes())
    again = await by_claim(wish(site, tmp_path / "etc", force=True), claim(site, parameters={"SerialNumber": "18"}))
    assert load(again.config, {}).thing == "thing-18"
    assert again.pair.certificate.read_bytes() != kept[1]


# -- from files --------------------------------------------------------------------------------------------------


async def test_files_that_belong_together_are_taken_over(site, tmp_path) -> None:
    at = site.cloud.certificates
    done = await from_files(wish(site, tmp_path / "etc"), "edge-1", at.client_cert, at.client_key)
    assert (done.thing, done.facts.common_name) == ("edge-1", "client")
    assert done.pair.key.read_bytes() == at.client_key.read_bytes()
    assert done.pair.key.stat().st_mode & 0o777 == 0o600


async def test_files_that_do_not_are_refused(site, tmp_path) -> None:
    at = site.cloud.certificates
    other, broken, locked = tmp_path / "other.key", tmp_path / "broken", tmp_path / "locked.key"
    other.write_bytes(new_key())
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    key = serialization.load_pem_private_key(at.client_key.read_bytes(), None)
    form = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form))
    expired = certs.create(tmp_path / "old", expired=True)
    cases = [
        (at.client_cert, other, "key-mismatch"),
        (broken, at.client_key, "bad-pem"),
        (at.client_cert, broken, "bad-pem"),
        (at.client_cert, locked, "bad-pem"),
        (expired.server_cert, expired.server_key, "certificate-expired"),
        (tmp_path / "nothing", at.client_key, "file-missing"),
    ]
    for certificate, key_file, code in cases:
        with pytest.raises(ProvisioningError) as refused:
            await from_files(wish(site, tmp_path / "etc"), "edge-1", certificate, key_file)
        assert refused.value.code == code
        assert left(tmp_path / "etc") == []


async def test_an_identity_that_may_not_connect_is_refused_with_the_rule(certificates) -> None:
    denied = access(Policy(()), Connection("edge-1"), "client")
    with Cloud(certificates, denied) as cloud, pytest.raises(ProvisioningError) as refused:
        await prove(cloud.iotcore(), "edge-1", patience_s=0.0)
    assert refused.value.code == "not-authorized"
    assert "iot:Connect on client/edge-1" in refused.value.hint


async def test_to_prove_takes_no_message_from_a_session_that_waits(site) -> None:
    options = site.cloud.iotcore()
    async with MqttTransport("thing", options.asking("cloud", "edge-1")) as thing:
        await connected(thing)
        thing.subscribe("verge/edge-1/deployments", Inbox(), qos=1)
        await subscribed(thing, "verge/edge-1/x")
    await delivered(site.operator, Message("verge/edge-1/deployments", b"document", qos=1))
    await prove(options, "edge-1")
    async with MqttTransport("thing", options.asking("cloud", "edge-1")) as thing:
        inbox = Inbox()
        thing.subscribe("verge/edge-1/deployments", inbox, qos=1)
        [message] = await inbox.wait(1)
    assert message.payload == b"document"


# -- the configuration -------------------------------------------------------------------------------------------


def test_what_is_written_is_the_shipped_configuration(tmp_path) -> None:
    shipped = (CONFIGS / "iot-core.toml").read_text()
    config = load(CONFIGS / "iot-core.toml", {})
    cloud = config.transports["cloud"]
    told = {"endpoint": cloud.endpoint, "cert_file": "identity/current/certificate.pem"}
    assert configuration(config.thing, told) == shipped


def test_every_value_finds_its_line_whatever_signs_it_has(tmp_path) -> None:
    odd = 'a "b" \\1 \\g<0> ü'
    host = odd.replace(" ", "")
    told = {"endpoint": host, "port": 443, "cert_file": odd, "key_file": odd, "ca_file": "ca.pem"}
    (tmp_path / "verge.toml").write_text(configuration("thing:1_x-y", told))
    config = load(tmp_path / "verge.toml", {})
    cloud = config.transports["cloud"]
    assert (config.thing, cloud.endpoint, cloud.port) == ("thing:1_x-y", host, 443)
    assert (cloud.cert_file, cloud.ca_file) == (str(tmp_path / odd), str(tmp_path / "ca.pem"))
    assert config.transports["local"].port == 1883


def test_certificates_are_named_as_iot_core_names_them(certificates) -> None:
    pem = certificates.client_cert.read_bytes()
    [parsed] = x509.load_pem_x509_certificates(pem)
    assert certificate_facts(pem).ends == parsed.not_valid_after_utc
    assert len(certificate_facts(pem).id) == 64
