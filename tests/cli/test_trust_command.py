"""``verge trust``: what one end signs, the other takes."""

from __future__ import annotations

import base64
import json
import subprocess
import tomllib
from datetime import UTC, datetime

import pytest

from tests.support.commands import invoke

DOCUMENT = {"deploymentId": "d1", "components": {"com.example.Model": {"version": "1.0.0"}}}
RECIPE = """\
RecipeFormatVersion: 2020-01-25
ComponentName: com.example.Model
ComponentVersion: 1.0.0
Manifests: [{}]
"""


@pytest.fixture
def trust(tmp_path):
    (tmp_path / "deployment.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    made = invoke(tmp_path, "trust", "keygen", "--out", "deployer.key", "--comment", 'the "press" line', "--json")
    assert made.returncode == 0, made.stderr
    return lambda *arguments: invoke(tmp_path, "trust", *arguments)


def test_a_private_key_is_for_its_owner_and_never_overwritten(trust, tmp_path):
    key = tmp_path / "deployer.key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    again = trust("keygen", "--out", "deployer.key")
    assert again.returncode == 2
    assert "deployer.key cannot be written: File exists" in again.stderr
    assert key.read_bytes() == before
    assert b"BEGIN PRIVATE KEY" in before


def test_a_public_key_reads_the_same_from_either_file(trust, tmp_path):
    private, public = (
        json.loads(trust("show", name, "--json").stdout) for name in ("deployer.key", "deployer.key.pub")
    )
    assert private["key"] == public["key"]
    assert public["comment"] == 'the "press" line'
    assert (tmp_path / "deployer.key.pub").read_text() == f"{public['line']}\n"
    assert public["key"] in trust("show", "deployer.key").stdout


def test_what_keygen_says_to_put_into_the_configuration_is_toml(trust):
    said = trust("keygen", "--out", "other.key", "--comment", 'a "quoted" one').stdout
    told = tomllib.loads(said[said.index("  [deployments]") :].replace("\n  ", "\n").strip())
    assert told["deployments"]["trusted_keys"][0].endswith('a "quoted" one')


def test_a_signed_document_is_verified_by_its_thing_and_refused_by_another(trust, tmp_path):
    signed = trust("sign", "deployment.json", "--key", "deployer.key", "--thing", "press-7", "--expires", 7)
    assert signed.returncode == 0, signed.stderr
    envelope = json.loads((tmp_path / "deployment.signed.json").read_text())
    inside = json.loads(base64.b64decode(envelope["document"]))
    days = (datetime.fromisoformat(inside.pop("expires")) - datetime.now(UTC)).total_seconds() / 86400
    assert 6.9 < days <= 7
    assert abs(inside.pop("creationTimestamp") / 1000 - datetime.now(UTC).timestamp()) < 60
    assert inside == DOCUMENT | {"thing": "press-7"}
    good = trust("verify", "deployment.signed.json", "--trusted", "deployer.key.pub", "--thing", "press-7", "--json")
    assert (good.returncode, json.loads(good.stdout)["signed"]) == (0, True)
    bad = trust("verify", "deployment.signed.json", "--trusted", "deployer.key.pub", "--thing", "press-8")
    assert bad.returncode == 2
    assert "for the thing press-7, and this is press-8" in bad.stderr


def test_a_document_expires_after_thirty_days_unless_told(trust, tmp_path):
    trust("sign", "deployment.json", "--key", "deployer.key")
    trust("sign", "deployment.json", "--key", "deployer.key", "--expires", 0, "--out", "ever.json")
    usual, ever = (
        json.loads(base64.b64decode(json.loads((tmp_path / name).read_text())["document"]))
        for name in ("deployment.signed.json", "ever.json")
    )
    assert (datetime.fromisoformat(usual["expires"]) - datetime.now(UTC)).days == 29
    assert "expires" not in ever


def test_an_envelope_can_be_written_to_standard_output(trust):
    said = trust("sign", "deployment.json", "--key", "deployer.key", "--out", "-")
    assert set(json.loads(said.stdout)) == {"document", "signatures"}


def test_a_recipe_is_signed_beside_itself_and_a_change_shows(trust, tmp_path):
    assert trust("sign", "recipe.yaml", "--key", "deployer.key").returncode == 0
    assert (tmp_path / "recipe.yaml").read_text() == RECIPE
    assert (tmp_path / "recipe.yaml.sig").exists()
    assert trust("verify", "recipe.yaml", "--trusted", "deployer.key.pub").returncode == 0
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("1.0.0", "1.0.1"))
    changed = trust("verify", "recipe.yaml", "--trusted", "deployer.key.pub")
    assert changed.returncode == 2
    assert "does not fit the recipe" in changed.stderr


def test_a_recipe_takes_no_thing_and_no_expiry(trust):
    assert trust("sign", "recipe.yaml", "--key", "deployer.key", "--thing", "x").returncode == 2
    assert trust("sign", "recipe.yaml", "--key", "deployer.key", "--expires", 1).returncode == 2


def test_what_no_trusted_key_signed_is_told_by_the_exit_status(trust):
    trust("keygen", "--out", "stranger.key")
    trust("sign", "deployment.json", "--key", "stranger.key")
    for file in ("deployment.signed.json", "deployment.json"):
        said = trust("verify", file, "--trusted", "deployer.key.pub")
        assert (said.returncode, said.stdout) == (1, f"{file}: no trusted key signed it\n")


def test_a_key_with_a_passphrase_signs_only_with_it(trust, tmp_path):
    (tmp_path / "secret").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("open barley\n")
    trust("keygen", "--out", "locked.key", "--passphrase-file", "secret")
    assert b"ENCRYPTED" in (tmp_path / "locked.key").read_bytes()
    sign = ("sign", "deployment.json", "--key", "locked.key")
    assert trust(*sign, "--passphrase-file", "secret").returncode == 0
    for more in ((), ("--passphrase-file", "wrong")):
        said = trust(*sign, *more)
        assert said.returncode == 2
        assert "passphrase" in said.stderr


def test_a_key_that_others_can_read_is_not_used(trust, tmp_path):
    (tmp_path / "deployer.key").chmod(0o644)
    said = trust("sign", "deployment.json", "--key", "deployer.key")
    assert said.returncode == 2
    assert "chmod 600" in said.stderr


@pytest.mark.parametrize("text", ["", "[]", "{a: 1}", '{"a": ', "\x00", "name: x"])
def test_what_is_neither_document_nor_recipe_is_not_signed(trust, tmp_path, text):
    (tmp_path / "what").write_text(text)
    said = trust("sign", "what", "--key", "deployer.key")
    assert said.returncode == 2
    assert not (tmp_path / "what.signed.json").exists()


def test_other_tools_read_the_private_key(trust, tmp_path):
    said = subprocess.run(
        ["openssl", "pkey", "-in", "deployer.key", "-noout", "-text"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ED25519" in said.stdout.upper(), said.stderr


# -- several keys, and key lists ---------------------------------------------------------------------------------------


@pytest.fixture
def people(trust):
    for name in ("anna", "ben", "carl"):
        assert trust("keygen", "--out", f"{name}.key", "--comment", name).returncode == 0
    return trust


@pytest.fixture
def listed(people):
    assert people("new", "keys.json", "--root", "anna.key.pub", "--root", "ben.key.pub").returncode == 0
    role = ("role", "keys.json", "line", "--key", "carl.key.pub", "--thing", "press-*", "--component", "com.example.*")
    assert people(*role).returncode == 0
    assert people("sign", "keys.json", "--key", "anna.key").returncode == 0
    return people


def shown(trust, name="keys.json"):
    said = trust("list", name, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_a_signed_document_gets_further_signatures_and_keeps_its_bytes(people, tmp_path):
    people("sign", "deployment.json", "--key", "anna.key", "--key", "ben.key")
    before = json.loads((tmp_path / "deployment.signed.json").read_text())
    assert people("sign", "deployment.signed.json", "--key", "carl.key").returncode == 0
    after = json.loads((tmp_path / "deployment.signed.json").read_text())
    assert (len(before["signatures"]), len(after["signatures"])) == (2, 3)
    assert after["document"] == before["document"]
    trusted = [part for name in ("anna", "ben", "carl") for part in ("--trusted", f"{name}.key.pub")]
    said = json.loads(people("verify", "deployment.signed.json", *trusted, "--json").stdout)
    assert [key["comment"] for key in said["keys"]] == ["anna", "ben", "carl"]
    changed = people("sign", "deployment.signed.json", "--key", "carl.key", "--thing", "press-7")
    assert "what is signed already does not change" in changed.stderr


def test_a_list_is_made_shown_and_says_which_signatures_it_lacks(people):
    people("new", "keys.json", "--root", "anna.key.pub", "--root", "ben.key.pub", "--threshold", 2, "--days", 30)
    assert "is there already" in people("new", "keys.json", "--root", "anna.key.pub").stderr
    assert "it lacks 1 of 2 signatures of its root" in people("sign", "keys.json", "--key", "anna.key").stdout
    assert "lacks" not in people("sign", "keys.signed.json", "--key", "ben.key").stdout
    keys = shown(people, "keys.signed.json")
    assert (keys["version"], keys["root"]["threshold"], keys["expired"]) == (1, 2, False)
    table = people("list", "keys.signed.json").stdout
    for part in ("key list 1", "signed by its root", "(anna)", "2 of 2"):
        assert part in table


def test_roles_bind_a_key_and_verify_says_what_a_device_would(listed):
    for name, thing, status, reason in (
        ("carl", "press-7", 0, "signed by"),
        ("carl", "lathe-1", 2, "may not deploy com.example.Model to lathe-1"),
        ("anna", "press-7", 2, "no role that deploys"),
    ):
        listed("sign", "deployment.json", "--key", f"{name}.key")
        said = listed("verify", "deployment.signed.json", "--trusted", "keys.signed.json", "--thing", thing)
        assert (said.returncode, reason in said.stdout + said.stderr) == (status, True), said
    listed("sign", "recipe.yaml", "--key", "anna.key")
    assert "may not sign recipes" in listed("verify", "recipe.yaml", "--trusted", "keys.signed.json").stderr
    listed("sign", "recipe.yaml", "--key", "carl.key")
    assert listed("verify", "recipe.yaml", "--trusted", "keys.signed.json").returncode == 0


def test_what_was_signed_is_changed_as_the_next_version(listed):
    assert listed("role", "keys.json", "line", "--key", "ben").returncode == 0
    assert shown(listed)["version"] == 2
    assert listed("role", "keys.json", "other", "--key", "carl.key.pub").returncode == 0
    assert shown(listed)["version"] == 2
    assert shown(listed, "keys.signed.json")["version"] == 1


def test_a_rotated_key_is_replaced_everywhere_and_a_revoked_one_is_gone(listed):
    listed("keygen", "--out", "dora.key", "--comment", "dora")
    assert listed("rotate", "keys.signed.json", "--old", "carl", "--new", "dora.key.pub").returncode == 0
    keys = shown(listed)
    assert (keys["version"], "dora" in keys["roles"]["line"]["keys"][0]) == (2, True)
    assert "carl" not in str(keys)
    said = listed("revoke", "keys.json", "dora.key.pub", "ben")
    assert "so is the role line" in said.stdout
    keys = shown(listed)
    assert keys["roles"] == {}
    assert len(keys["root"]["keys"]) == 1
    assert "nobody would be left" in listed("revoke", "keys.json", "anna").stderr


def test_a_list_that_would_leave_a_role_without_its_keys_is_not_written(listed, tmp_path):
    listed("role", "keys.json", "line", "--key", "carl.key.pub", "--key", "ben.key.pub", "--threshold", 2)
    before = (tmp_path / "keys.json").read_bytes()
    said = listed("revoke", "keys.json", "carl")
    assert "nothing is written: the role line needs 2 signatures and has 1 keys" in said.stderr
    assert (tmp_path / "keys.json").read_bytes() == before


def test_the_next_list_is_verified_against_the_one_before_it(listed, tmp_path):
    listed("renew", "keys.signed.json", "--days", 365, "--out", "next.json")
    listed("sign", "next.json", "--key", "carl.key")
    assert "0 of the 1 signatures" in listed("verify", "next.signed.json", "--trusted", "keys.signed.json").stderr
    listed("sign", "next.signed.json", "--key", "ben.key")
    assert listed("verify", "next.signed.json", "--trusted", "keys.signed.json").returncode == 0
    back = listed("verify", "keys.signed.json", "--trusted", "next.signed.json")
    assert "is not newer than 2" in back.stderr


def test_a_device_without_a_list_says_so_and_is_reset(listed, tmp_path):
    (tmp_path / "data").mkdir()
    assert "holds no key list" in listed("list", "--data-dir", "data").stderr
    assert "there is no key list" in listed("reset", "--data-dir", "data").stdout
    assert "say which" in listed("list").stderr
