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


@pytest.mark.parametrize("text", ["", "[]", "{a: 1}", '{"a": ', "\x00", "name: x", None])
def test_what_is_neither_document_nor_recipe_is_not_signed(trust, tmp_path, text):
    if text is None:
        trust("sign", "deployment.json", "--key", "deployer.key", "--out", "what")
    else:
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
