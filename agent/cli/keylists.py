"""The key lists of ``verge trust``: made and changed; what ``sign`` and ``verify`` ask of them.

A list that is being changed is plain JSON in ``NAME.json``; signed it lies in ``NAME.signed.json``.  The commands take
either, and write the first with the next version: what was signed is never changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from agent.cli import signing
from agent.cli.output import echo, json_option, print_json
from agent.cli.signing import PrivateKey
from agent.errors import ConfigError
from agent.files import write_atomically
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.request import Origin
from agent.greengrass.recipes import reader
from agent.greengrass.trust import keylist
from agent.greengrass.trust.freshness import STILL_VALID_TYPE, StillValid
from agent.greengrass.trust.keylist import (
    KEYS_TYPE,
    KeyList,
    KeyListDocument,
    RoleDocument,
    Scope,
    SignersDocument,
)
from agent.greengrass.trust.keyring import trust_words
from agent.greengrass.trust.keys import PREFIX, PublicKey, trusted
from agent.greengrass.trust.signatures import (
    NotTrustedError,
    Opened,
    SignedKind,
    is_envelope,
    signers,
    unsealed,
)

__all__ = ["COMMANDS", "check", "check_document", "check_recipe", "lacking", "next_list", "trusted_list"]

_PATH = click.Path(path_type=Path)
_LIST = click.argument("file", type=_PATH, metavar="LIST")
_DAYS = click.option(
    "--days", type=click.IntRange(0, 36500), metavar="N", help="How long it is valid from now; 0 is for ever."
)
_THRESHOLD = click.option("--threshold", type=click.IntRange(1, 8), metavar="N", help="How many of them have to sign.")
_PATIENCE_S = 10.0


# -- what `verge trust sign` and `verify` ask --------------------------------------------------------------------------


def check(content: bytes, kind: SignedKind) -> None:
    """Refuse to sign a list that no device could read.  Raises ``NotTrustedError``."""
    if kind is SignedKind.KEYS:
        keylist.read(content)


def lacking(envelope: bytes) -> str:
    """Which signatures a signed list still lacks of its own root, as a sentence; empty when it has enough."""
    signed = unsealed(envelope)
    keys = keylist.read(signed.content)
    came = signers(SignedKind.KEYS, signed.content, signed.signatures, keys.keys)
    short = keys.root.threshold - keys.root.signed(came)
    others = [str(keys.keys[one]) for one in sorted(keys.root.keys - {key.id for key in came})]
    return f"it lacks {short} of {keys.root.threshold} signatures of its root: {', '.join(others)}" if short > 0 else ""


def trusted_list(named: tuple[str, ...]) -> KeyList:
    """What a device trusts: one key list, or keys.  Raises ``ConfigError``."""
    if len(named) == 1 and not named[0].startswith(PREFIX) and is_envelope(signing.content(Path(named[0]))):
        return keylist.first(unsealed(signing.content(Path(named[0]))))
    return KeyList.configured(trusted(named, Path.cwd()))


def next_list(payload: bytes, known: KeyList) -> tuple[PublicKey, ...]:
    """The keys of ``known`` that signed the list after it.  Raises ``NotTrustedError`` where a device refuses it."""
    ((kind, signed),) = trust_words(payload)
    if kind is SignedKind.KEYS:
        keylist.successor(known, signed)
    return signers(kind, signed.content, signed.signatures, known.keys)


def check_document(opened: Opened, thing: str | None, known: KeyList) -> None:
    """Refuse what the roles of its signers do not cover.  Raises ``NotTrustedError``."""
    if not opened.signers or not known.version:
        return
    claimed = msgspec.json.decode(opened.document).get("thing")
    if thing is None and not claimed:
        raise click.UsageError("roles are bound to things: say which with --thing")
    asked = parse(opened.document, source=Origin.LOCAL, received_ms=int(time.time() * 1e3))
    named = frozenset((*asked.components, *asked.remove, *(recipe.name for recipe in asked.recipes)))
    reason = known.refusal(opened.signers, Scope(thing or claimed, asked.group, named))
    if known.expired(time.time()):
        reason = f"key list {known.version} has expired"
    if reason:
        raise NotTrustedError(reason)


def check_recipe(text: bytes, name: str, signed_by: tuple[PublicKey, ...], known: KeyList) -> None:
    """Refuse a recipe that its signers may not publish.  Raises ``NotTrustedError``."""
    if signed_by and known.version and (reason := known.recipe_refusal(signed_by, reader.parse(text, name).name)):
        raise NotTrustedError(reason)


# -- lists -------------------------------------------------------------------------------------------------------------


def _editing(function: Callable[..., tuple[KeyListDocument, str]]) -> Callable[..., None]:
    """Give a command the list of a file, and write what it makes of it as the next version."""

    @_LIST
    @_DAYS
    @click.option("--out", type=_PATH, metavar="FILE", help="Where to write.  [default: LIST without .signed]")
    @json_option
    @wraps(function)
    def wrapped(file: Path, days: int | None, out: Path | None, as_json: bool, **others: Any) -> None:
        draft = file.with_name(file.name.replace(".signed.json", ".json"))
        changed, sentence = function(_read(file), **others)
        changed = replace(changed, version=_next_version(file, draft), issued=_now())
        _write(out or draft, changed if days is None else replace(changed, expires=_in_days(days)))
        _say(out or draft, changed.version, sentence, as_json=as_json)

    return wrapped


@click.command("new")
@_LIST
@click.option("--root", required=True, multiple=True, metavar="KEY", help="Who signs this list and the next; a file.")
@_THRESHOLD
@click.option("--timestamp", multiple=True, metavar="KEY", help="Who signs that nothing changed.  [default: the root]")
@_DAYS
@json_option
def _new(
    file: Path, root: tuple[str, ...], threshold: int | None, timestamp: tuple[str, ...], days: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Begin a key list; nothing is overwritten.

    It says who may deploy what.  The root signs the list, and has to sign the next one.  Give it several keys and a
    threshold, and keep them apart: then one that is stolen signs nothing, and one that is lost is replaced by the
    others.  Roles come after it.

    \b
    Examples:
      verge trust new keys.json --root anna.key.pub --root ben.key.pub --root carl.key.pub --threshold 2 --days 365
      verge trust new keys.json --root anna.key.pub --timestamp clock.key.pub
    """  # noqa: D301 click reads the backspace
    if file.exists():
        raise ConfigError(
            f"{file} is there already", code="not-written", hint="change it: verge trust role, rotate, revoke"
        )
    people, clocks = _keys(root), _keys(timestamp)
    made = KeyListDocument(
        type=KEYS_TYPE, version=1, issued=_now(), expires=_in_days(days or 0),
        keys=tuple(key.line for key in {key.id: key for key in (*people, *clocks)}.values()),
        root=SignersDocument(keys=_ids(people), threshold=threshold or 1),
        timestamp=SignersDocument(keys=_ids(clocks)) if clocks else None,
    )  # fmt: skip
    _write(file, made)
    _say(file, 1, "add roles: verge trust role", as_json=as_json)


@click.command("role")
@_editing
@click.argument("name")
@click.option("--key", "named", multiple=True, metavar="KEY", help="Who has it: a public key's file or line, or an id.")
@_THRESHOLD
@click.option("--thing", "things", multiple=True, metavar="PATTERN", help="On which things.  [default: *]")
@click.option("--group", "groups", multiple=True, metavar="PATTERN", help="For which thing groups.  [default: *]")
@click.option("--component", "components", multiple=True, metavar="PATTERN", help="Which components.  [default: *]")
@click.option("--remove", is_flag=True, help="Nobody has it any more.")
def _role(
    content: KeyListDocument, name: str, named: tuple[str, ...], threshold: int | None, things: tuple[str, ...],
    groups: tuple[str, ...], components: tuple[str, ...], remove: bool,
) -> tuple[KeyListDocument, str]:  # fmt: skip
    """Say which keys may deploy what.

    Things, groups and components are names, or patterns with * and ?.  The role gets exactly what is said here.  A
    deployment to no group is of the group LOCAL_DEPLOYMENT.

    \b
    Examples:
      verge trust role keys.json line-3 --key carl.key.pub --thing "press-*" --component "com.acme.*"
      verge trust role keys.json release --key carl.key.pub --key dora.key.pub --threshold 2 --group lab
      verge trust role keys.signed.json line-3 --remove
    """  # noqa: D301 click reads the backspace
    others = {known: role for known, role in content.roles.items() if known != name}
    if remove:
        if name not in content.roles:
            raise ConfigError(f"there is no role {name}", code="no-role", hint=f"there are {_listed(content.roles)}")
        return _pruned(replace(content, roles=others)), f"the role {name} is gone"
    if not named:
        raise click.UsageError("say who has the role: --key KEY")
    keys = _keys(named, content)
    role = RoleDocument(
        keys=_ids(keys), threshold=threshold or 1, things=things or ("*",), groups=groups or ("*",),
        components=components or ("*",),
    )  # fmt: skip
    return _pruned(replace(content, keys=_with(content, keys), roles=others | {name: role})), f"role {name}"


@click.command("rotate")
@_editing
@click.option("--old", required=True, metavar="KEY", help="The key that goes: a file, a line, an id or its comment.")
@click.option("--new", "fresh", required=True, metavar="KEY", help="The key that takes its place: a file or line.")
def _rotate(content: KeyListDocument, old: str, fresh: str) -> tuple[KeyListDocument, str]:
    """Put a new key in an old one's place, in every role.

    The next list is signed by the root of the one before it and by its own: for a key of the root, by the old key as
    well, or by enough others of its root.

    \b
    Examples:
      verge trust rotate keys.signed.json --old anna.key.pub --new anna-2027.key.pub
      verge trust sign keys.json --key anna.key --key anna-2027.key
    """  # noqa: D301 click reads the backspace
    (gone,), (come,) = _keys((old,), content), _keys((fresh,))

    def turned(role: SignersDocument) -> tuple[str, ...]:
        return tuple(dict.fromkeys(come.id if one == gone.id else one for one in role.keys))

    changed = _each_role(replace(content, keys=_with(content, (come,))), lambda role: replace(role, keys=turned(role)))
    return _pruned(changed), f"{come} takes the place of {gone}"


@click.command("revoke")
@_editing
@click.argument("key", nargs=-1, required=True)
def _revoke(content: KeyListDocument, key: tuple[str, ...]) -> tuple[KeyListDocument, str]:
    """Take keys out of a list.

    Devices that have the next list take nothing that these keys sign.  A role whose only key goes is gone too; one that
    needs more signatures than it has keys left is refused.

    \b
    Examples:
      verge trust revoke keys.signed.json carl.key.pub
      verge trust revoke keys.signed.json 0123456789abcdef --days 365
    """  # noqa: D301 click reads the backspace
    gone = _keys(key, content)
    ids = {one.id for one in gone}

    def left(role: SignersDocument) -> tuple[str, ...]:
        return tuple(one for one in role.keys if one not in ids)

    if not left(content.root):
        raise ConfigError(
            "nobody would be left to sign the next list", code="no-root", hint="put another key first: `rotate`"
        )
    roles = {name: role for name, role in content.roles.items() if left(role)}
    ended = [name for name in content.roles if name not in roles]
    timestamp = content.timestamp if content.timestamp and left(content.timestamp) else None
    kept = replace(content, roles=roles, timestamp=timestamp)
    changed = _each_role(kept, lambda role: replace(role, keys=left(role)))
    also = f"; so is the role {', '.join(ended)}" if ended else ""
    return _pruned(changed), f"{', '.join(map(str, gone))} is gone{also}"


@click.command("renew")
@_editing
def _renew(content: KeyListDocument) -> tuple[KeyListDocument, str]:
    """Make the same list again, for longer.

    \b
    Examples:
      verge trust renew keys.signed.json --days 365
    """  # noqa: D301 click reads the backspace
    return content, "as it was"


@click.command("stamp")
@click.option("--key", "key_file", required=True, type=_PATH, metavar="FILE", help="A private key of the timestamp.")
@click.option("--list", "file", type=_PATH, metavar="LIST", help="The key list that is the newest.")
@click.option("--passphrase-file", type=_PATH, metavar="FILE", help="Of the key.")
@click.option("--out", type=_PATH, default="still-valid.signed.json", show_default=True, metavar="FILE", help="- too.")
@json_option
def _stamp(key_file: Path, file: Path | None, passphrase_file: Path | None, out: Path, as_json: bool) -> None:
    """Sign that until now nothing changed.

    A timestamp names the newest key list, and changes nothing on a device.  A device says how old the newest signed
    word is; with deployments.max_silence_s it trusts nothing older.  Make and send one by a timer, with a key that may
    nothing else.

    \b
    Examples:
      verge trust stamp --key clock.key --list keys.signed.json
      verge trust send still-valid.signed.json --to press-7
    """  # noqa: D301 click reads the backspace
    passphrase = signing.content(passphrase_file).strip() if passphrase_file else None
    key = PrivateKey.read(key_file, passphrase)
    version = _read(file).version if file else 0
    stamp = StillValid(type=STILL_VALID_TYPE, at=_now(), keys=version)
    sealed = signing.seal(msgspec.json.encode(stamp), key, kind=SignedKind.STILL_VALID)
    if str(out) == "-":
        echo(sealed.decode())
        return
    _write_bytes(out, sealed)
    if as_json:
        print_json({"file": str(out), "key": key.public.id, "keys": version, "at": stamp.at.isoformat()})
    else:
        about = f", with key list {version} as the newest" if version else ""
        echo(f"{out}: signed by {key.public}{about}")


COMMANDS = (_new, _role, _rotate, _revoke, _renew, _stamp)


# -- files -------------------------------------------------------------------------------------------------------------


def _read(file: Path) -> KeyListDocument:
    """The list in a file, signed or not.  Raises ``NotTrustedError``."""
    text = signing.content(file)
    content = unsealed(text).content if is_envelope(text) else text
    keylist.read(content)
    return msgspec.json.decode(content, type=KeyListDocument)


def _next_version(file: Path, draft: Path) -> int:
    """One more than what was signed; a draft that nobody signed yet keeps its version."""
    signed = [path for path in (file, draft.with_suffix(".signed.json")) if path.exists()]
    versions = [_read(path).version + 1 for path in signed if is_envelope(signing.content(path))]
    return max([_read(file).version, *versions])


def _write(path: Path, made: KeyListDocument) -> None:
    """Write a list that a device could read.  Raises ``ConfigError`` for one that leaves a role without its keys."""
    data = msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
    try:
        keylist.read(data)
    except NotTrustedError as error:
        reason = error.message.removeprefix("the key list cannot be read: ")
        hint = "first give the role another key or threshold: `verge trust role`, `rotate`"
        raise ConfigError(f"nothing is written: {reason}", code="not-written", hint=hint) from error
    _write_bytes(path, data)


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", code="not-written") from error


def _say(path: Path, version: int, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(path), "version": version, "what": sentence})
    else:
        echo(f"{path}: key list {version}, not signed yet: {sentence}")


def _keys(named: tuple[str, ...], content: KeyListDocument | None = None) -> tuple[PublicKey, ...]:
    """Keys by their files or lines, or by the ids and comments of a list's."""
    listed = [PublicKey.parse(line) for line in content.keys] if content else []
    found = []
    for name in named:
        if name.startswith(PREFIX):
            found.append(PublicKey.parse(name))
        elif known := [key for key in listed if name in (key.id, key.comment)]:
            if len(known) > 1:
                raise ConfigError(f"{len(known)} keys are called {name!r}", code="which-key", hint="name it by its id")
            found += known
        else:
            found.append(signing.public_key(Path(name), None))
    return tuple(found)


def _ids(keys: tuple[PublicKey, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.id for key in keys))


def _with(content: KeyListDocument, keys: tuple[PublicKey, ...]) -> tuple[str, ...]:
    """The lines of a list and of these keys, each key once."""
    listed = {PublicKey.parse(line).id: line for line in content.keys}
    return tuple((listed | {key.id: key.line for key in keys if key.id not in listed}).values())


def _each_role(content: KeyListDocument, change: Callable[[Any], Any]) -> KeyListDocument:
    """The list with every role changed."""
    roles = {name: change(role) for name, role in content.roles.items()}
    timestamp = change(content.timestamp) if content.timestamp else None
    return replace(content, root=change(content.root), timestamp=timestamp, roles=roles)


def _pruned(content: KeyListDocument) -> KeyListDocument:
    """The list without the keys that no role has."""
    roles = (content.root, *([content.timestamp] if content.timestamp else []), *content.roles.values())
    used = {key for role in roles for key in role.keys}
    return replace(content, keys=tuple(line for line in content.keys if PublicKey.parse(line).id in used))


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _in_days(days: int) -> datetime | None:
    return _now() + timedelta(days=days) if days else None
