"""``verge trust``: keys, and the signatures of deployment documents and recipes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.cli import signing
from agent.cli.output import json_option, print_json
from agent.cli.signing import PrivateKey
from agent.errors import ConfigError
from agent.files import write_atomically
from agent.greengrass.deployments import keys
from agent.greengrass.deployments.keys import PublicKey
from agent.greengrass.deployments.trust import SignedKind, open_document, recipe_signer

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_PASSPHRASE = click.option(
    "--passphrase-file", type=_PATH, metavar="FILE", help="Where the passphrase of the private key is."
)
_USUAL_DAYS = 30


@click.group("trust")
def command() -> None:
    """Make keys, and sign deployment documents and recipes with them.

    Devices take a document over any link when a key signed it that their configuration lists under
    deployments.trusted_keys.

    \b
    Examples:
      verge trust keygen --out deployer.key --comment "line 3"
      verge trust sign deployment.json --key deployer.key --thing press-7
      verge trust verify deployment.signed.json --trusted deployer.key.pub
    """  # noqa: D301 click reads the backspace


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
@click.option("--key", "key_file", required=True, type=_PATH, metavar="FILE", help="The private key.")
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
    file: Path, key_file: Path, thing: str | None, expires: int | None, out: Path | None,
    passphrase_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Sign a deployment document or a recipe.

    A document goes into an envelope, NAME.signed.json, which is sent in its place; one without a time of its own gets
    the present, so that devices do not take it after a newer one.  A recipe stays as it is; its signature is written
    beside it, to FILE.sig.

    \b
    Examples:
      verge trust sign deployment.json --key deployer.key --thing press-7 --expires 7
      verge trust sign recipes/com.example.Model-1.0.0.json --key deployer.key
    """  # noqa: D301 click reads the backspace
    text = signing.content(file)
    kind = signing.kind_of(text, str(file))
    key = PrivateKey.read(key_file, _passphrase(passphrase_file))
    if kind is SignedKind.RECIPE:
        if thing is not None or expires is not None:
            raise click.UsageError("a recipe is for every device and does not expire: no --thing, no --expires")
        sealed, usual = signing.seal_beside(text, key), file.with_name(f"{file.name}.sig")
    else:
        now, days = datetime.now(UTC), _USUAL_DAYS if expires is None else expires
        claimed = signing.with_claims(text, thing, now + timedelta(days=days) if days else None, now)
        sealed, usual = signing.seal(claimed, key), file.with_suffix(".signed.json")
    if str(out) == "-":
        click.echo(sealed)
        return
    target = out or usual
    _write(target, sealed)
    _print(as_json, _json(key.public) | {"kind": kind, "file": str(target)}, f"{target}: signed by {key.public}")


@command.command("verify")
@click.argument("file", type=_PATH)
@click.option("--trusted", required=True, multiple=True, metavar="KEY", help="A public key's file or line; repeatable.")
@click.option("--thing", help="Check as this device; without it whoever the document is for.")
@json_option
def verify(file: Path, trusted: tuple[str, ...], thing: str | None, as_json: bool) -> None:
    """Tell whether a trusted key signed a document or recipe, as a device would.

    The exit status is 1 when no trusted key signed it, and 2 when it was changed, has expired or is for another thing.

    \b
    Examples:
      verge trust verify deployment.signed.json --trusted deployer.key.pub --thing press-7
      verge trust verify recipes/com.example.Model-1.0.0.json --trusted deployer.key.pub
    """  # noqa: D301 click reads the backspace
    known = keys.trusted(trusted, Path.cwd())
    text, beside = signing.content(file), file.with_name(f"{file.name}.sig")
    if beside.exists():
        signer = recipe_signer(text, signing.content(beside), known)
    else:
        signer = open_document(text, known, thing=thing, now=time.time()).signed_by
    verdict = {"file": str(file), "signed": signer is not None} | (_json(signer) if signer else {})
    _print(as_json, verdict, f"{file}: signed by {signer}" if signer else f"{file}: no trusted key signed it")
    if signer is None:
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
        click.echo(sentence)


def _passphrase(file: Path | None) -> bytes | None:
    if file is None:
        return None
    words = signing.content(file).strip()
    if not words:
        raise ConfigError(f"there is no passphrase in {file}", code="passphrase-missing")
    return words


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", code="not-written") from error
