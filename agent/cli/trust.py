"""``verge trust``: keys, and the signatures of deployment documents, recipes and key lists."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.cli import forgetting, keylists, keyrings, signing
from agent.cli.output import echo, json_option, print_json
from agent.cli.signing import PrivateKey
from agent.errors import ConfigError
from agent.files import SHARED, write_atomically
from agent.greengrass.trust.keyring import is_trust_word
from agent.greengrass.trust.keys import PublicKey
from agent.greengrass.trust.signatures import SignedKind, is_envelope, open_document, recipe_signers, unsealed

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_PASSPHRASE = click.option(
    "--passphrase-file", type=_PATH, metavar="FILE", help="Where the passphrase of the private key is."
)
_USUAL_DAYS = 30


@click.group("trust")
def command() -> None:
    """Make keys, say who may deploy what, and sign deployment documents and recipes.

    Devices take a document over any link when a key signed it that they trust: those of the configuration, under
    deployments.trusted_keys, or those of a signed key list, which binds each to things, groups and components and
    which the next list replaces.  docs/security.md tells more.

    \b
    Examples:
      verge trust keygen --out deployer.key --comment "line 3"
      verge trust sign deployment.json --key deployer.key --thing press-7
      verge trust new keys.json --root anna.key.pub --root ben.key.pub --threshold 2
      verge trust role keys.json line-3 --key deployer.key.pub --thing "press-*" --component "com.acme.*"
      verge trust sign keys.json --key anna.key --key ben.key
      verge trust send keys.signed.json --to press-7
    """  # noqa: D301 click reads the backspace


for part in (*keylists.COMMANDS, *keyrings.COMMANDS, *forgetting.COMMANDS):
    command.add_command(part)


@command.command("keygen")
@click.option("--out", required=True, type=_PATH, metavar="FILE", help="The private key; FILE.pub is the public one.")
@click.option("--comment", default="", help="Whose key it is, or what for.")
@_PASSPHRASE
@json_option
def keygen(out: Path, comment: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a pair of Ed25519 keys; nothing is overwritten.

    \b
    Examples:
      verge trust keygen --out deployer.key
      verge trust keygen --out deployer.key --comment "line 3" --passphrase-file secret.txt
    """  # noqa: D301 click reads the backspace
    key = signing.generate(out, comment, _passphrase(passphrase_file))
    _print(as_json, _json(key) | {"private_key": str(out), "public_key": f"{out}.pub"}, f"""\
{out}: the private key; keep it off devices
{out}.pub: the public key {key}

In the configuration of devices that are to take what it signs:

  [deployments]
  trusted_keys = [{json.dumps(key.line)}]""")  # fmt: skip


@command.command("sign")
@click.argument("file", type=_PATH)
@click.option(
    "--key", "key_files", required=True, multiple=True, type=_PATH, metavar="FILE", help="A private key; repeatable."
)
@click.option("--thing", help="The only device that is to take the document.")
@click.option(
    "--expires",
    type=click.IntRange(0, 36500),
    metavar="DAYS",
    help=f"How long devices take the document; 0 is for ever.  [default: {_USUAL_DAYS}]",
)
@click.option("--out", type=_PATH, metavar="FILE", help="Where to write; - is standard output.")
@_PASSPHRASE
@json_option
def sign(
    file: Path, key_files: tuple[Path, ...], thing: str | None, expires: int | None, out: Path | None,
    passphrase_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Sign a document, a recipe or a key list.

    Of what is signed already, add the signature.  A document or key list goes into an envelope, NAME.signed.json, which
    is sent in its place; a document without a time of its own gets the present, so that devices do not take it after a
    newer one.  A recipe stays as it is; its signatures are written beside it, to FILE.sig.

    \b
    Examples:
      verge trust sign deployment.json --key deployer.key --thing press-7 --expires 7
      verge trust sign recipes/com.example.Model-1.0.0.json --key deployer.key
      verge trust sign keys.json --key anna.key --key ben.key
      verge trust sign keys.signed.json --key carl.key
    """  # noqa: D301 click reads the backspace
    text = signing.content(file)
    private = [PrivateKey.read(key, _passphrase(passphrase_file)) for key in key_files]
    kind, sealed, usual = _sealed(file, text, private, thing, expires)
    names = ", ".join(str(key.public) for key in private)
    if str(out) == "-":
        echo(sealed.decode())
        return
    target = out or usual
    _write(target, sealed)
    listed = {"kind": kind, "file": str(target), "keys": [_json(key.public) for key in private]}
    lacking = keylists.lacking(sealed) if kind is SignedKind.KEYS else ""
    _print(as_json, _json(private[0].public) | listed, f"{target}: signed by {names}{lacking and f'; {lacking}'}")


def _sealed(
    file: Path, text: bytes, keys: Sequence[PrivateKey], thing: str | None, expires: int | None
) -> tuple[SignedKind, bytes, Path]:
    """What is signed, the result, and where it usually goes."""
    if is_envelope(text):
        kind = signing.kind_of(unsealed(text).content, str(file))
        _without_claims(thing, expires, "what is signed already does not change: no --thing, no --expires")
        return kind, signing.countersign(text, *keys, kind=kind), file
    kind, usual = signing.kind_of(text, str(file)), file.with_suffix(".signed.json")
    if kind is SignedKind.RECIPE:
        _without_claims(thing, expires, "a recipe is for every device and does not expire: no --thing, no --expires")
        return kind, signing.seal_beside(text, *keys), file.with_name(f"{file.name}.sig")
    if kind is not SignedKind.DOCUMENT:
        _without_claims(thing, expires, "a key list says itself for how long: `verge trust renew --days`")
        keylists.check(text, kind)
        return kind, signing.seal(text, *keys, kind=kind), usual
    now, days = datetime.now(UTC), _USUAL_DAYS if expires is None else expires
    claimed = signing.with_claims(text, thing, now + timedelta(days=days) if days else None, now)
    return kind, signing.seal(claimed, *keys), usual


def _without_claims(thing: str | None, expires: int | None, why: str) -> None:
    if thing is not None or expires is not None:
        raise click.UsageError(why)


@command.command("verify")
@click.argument("file", type=_PATH)
@click.option(
    "--trusted", required=True, multiple=True, metavar="KEY", help="A public key's file or line, or a key list."
)
@click.option("--thing", help="Check as this device; without it whoever the document is for.")
@json_option
def verify(file: Path, trusted: tuple[str, ...], thing: str | None, as_json: bool) -> None:
    """Tell whether a device would take something signed.

    With a key list the roles of the keys count too; a key list is checked as the next one after it.  The exit status
    is 1 when no trusted key signed it, and 2 when it was changed, has expired, is for another thing, or when the keys
    may not sign that.

    \b
    Examples:
      verge trust verify deployment.signed.json --trusted deployer.key.pub --thing press-7
      verge trust verify deployment.signed.json --trusted keys.signed.json --thing press-7
      verge trust verify keys-2.signed.json --trusted keys.signed.json
      verge trust verify recipes/com.example.Model-1.0.0.json --trusted deployer.key.pub
    """  # noqa: D301 click reads the backspace
    known = keylists.trusted_list(trusted)
    text, beside = signing.content(file), file.with_name(f"{file.name}.sig")
    if beside.exists():
        signers = recipe_signers(text, signing.content(beside), known.keys)
        keylists.check_recipe(text, str(file), signers, known)
    elif is_trust_word(text):
        signers = keylists.next_list(text, known)
    else:
        opened = open_document(text, known.keys, thing=thing, now=time.time())
        signers = opened.signers
        keylists.check_document(opened, thing, known)
    names = ", ".join(map(str, signers))
    verdict = {"file": str(file), "signed": bool(signers), "keys": [_json(key) for key in signers]}
    verdict |= _json(signers[0]) if signers else {}
    _print(as_json, verdict, f"{file}: signed by {names}" if signers else f"{file}: no trusted key signed it")
    if not signers:
        raise click.exceptions.Exit(1)


@command.command("show")
@click.argument("key", type=_PATH)
@_PASSPHRASE
@json_option
def show(key: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show the public key in a key's file, private or public, as a configuration takes it.

    \b
    Examples:
      verge trust show deployer.key
      verge trust show deployer.key.pub --json
    """  # noqa: D301 click reads the backspace
    public = signing.public_key(key, _passphrase(passphrase_file))
    _print(as_json, _json(public), f"{public.id}\n{public.line}")


def _json(key: PublicKey) -> dict[str, Any]:
    return {"key": key.id, "line": key.line, "comment": key.comment}


def _print(as_json: bool, values: dict[str, Any], sentence: str) -> None:
    if as_json:
        print_json(values)
    else:
        echo(sentence)


def _passphrase(file: Path | None) -> bytes | None:
    if file is None:
        return None
    words = signing.content(file).strip()
    if not words:
        raise ConfigError(f"there is no passphrase in {file}", code="passphrase-missing")
    return words


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data, SHARED)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", code="not-written") from error
