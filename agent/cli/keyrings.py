"""What devices trust, for ``verge trust``: lists and timestamps sent to them, and what they hold shown and reset."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli import loop, remote, signing
from agent.cli.broker import broker_options, thing_option
from agent.cli.keylists import lacking
from agent.cli.output import echo, json_option, local_time, print_json
from agent.config.load import Config, load
from agent.errors import ConfigError, UnreachableError
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.trust import keylist
from agent.greengrass.trust.keylist import described
from agent.greengrass.trust.keyring import KeyringFile, trust_words
from agent.greengrass.trust.signatures import SignedKind, is_envelope, unsealed
from agent.mqtt.transport import Message
from agent.mqtt.visit import Visit
from agent.text import shown_within

__all__ = ["COMMANDS"]

_PATH = click.Path(path_type=Path)
_PATIENCE_S = 10.0


@click.command("list")
@click.argument("file", type=_PATH, metavar="LIST", required=False)
@click.option("--data-dir", type=_PATH, metavar="DIR", help="What the device with this data folder holds.")
@click.option("-c", "--config", "path", type=_PATH, metavar="FILE", help="The same, by the agent's TOML file.")
@json_option
def _list(file: Path | None, data_dir: Path | None, path: Path | None, as_json: bool) -> None:
    """Show the keys and roles of a list, or of a device.

    The list may be signed or not.  What a running device has says `verge trust status` as well.

    \b
    Examples:
      verge trust list keys.json
      verge trust list keys.signed.json --json
      verge trust list --data-dir /var/lib/verge
    """  # noqa: D301 click reads the backspace
    if file is not None:
        envelope = signing.content(file)
        keys = keylist.read(unsealed(envelope).content if is_envelope(envelope) else envelope)
        note = (lacking(envelope) or "signed by its root") if is_envelope(envelope) else "not signed yet"
    else:
        stored = KeyringFile(Layout(_folder(data_dir, path)).trust).read()
        if stored is None or stored.keys is None:
            raise ConfigError(
                "the device holds no key list", code="no-key-list", hint="its configuration's keys are what it trusts"
            )
        keys, note = stored.keys, "in use"
    if as_json:
        print_json(described(keys) | {"expired": keys.expired(time.time())})
    else:
        _show(described(keys), note)


@click.command("send")
@click.argument("files", type=_PATH, nargs=-1, required=True, metavar="FILE...")
@click.option("--thing", "--to", default="", metavar="THING", help="The device.  [default: the only one there is]")
@click.option("--wait/--no-wait", default=True, help="Until the device says that it took it.  [default: --wait]")
@json_option
@broker_options
def _send(config: Config, files: tuple[Path, ...], thing: str, wait: bool, as_json: bool) -> None:
    """Send key lists or a timestamp to a device.

    They stay on the broker for a device that is away.  A device that may have missed lists gets them all, oldest first:
    each is signed by the one before it.

    \b
    Examples:
      verge trust send keys.signed.json --to press-7
      verge trust send keys-1.signed.json keys-2.signed.json keys-3.signed.json --to press-7
      verge trust send still-valid.signed.json --to press-7 --no-wait
    """  # noqa: D301 click reads the backspace
    payloads = [_signed(file) for file in files]
    words = [word for payload in payloads for word in trust_words(payload)]
    payload = payloads[0] if len(payloads) == 1 else b"[" + b",".join(payloads) + b"]"
    lists = [keylist.read(signed.content).version for kind, signed in words if kind is SignedKind.KEYS]
    status = loop.run(_sent(config, thing_option(config, thing), payload, lists, wait=wait))
    if as_json:
        print_json(status)
    elif not wait:
        echo("sent", err=True)
    else:
        _show_status(status)
    if status.get("answer") == "refused":
        raise click.exceptions.Exit(2)


def _signed(file: Path) -> bytes:
    """A file that may be sent: what lacks signatures would lie on the broker in the place of what a device takes."""
    payload = signing.content(file)
    hint = f"verge trust sign {file} --key KEY"
    if not is_envelope(payload):
        raise ConfigError(f"{file} is not signed", code="not-signed", hint=hint)
    ((kind, _),) = trust_words(payload)
    if kind is SignedKind.KEYS and (short := lacking(payload)):
        raise ConfigError(f"{file}: {short}", code="not-signed", hint=hint)
    return payload


async def _sent(config: Config, thing: str, payload: bytes, lists: list[int], *, wait: bool) -> dict[str, Any]:
    async with remote.link(config) as visit:
        name = thing or await remote.thing_of(visit, config.status.prefix)
        base = f"{remote.base_of(name, config.status.prefix)}/trust"
        statuses: asyncio.Queue[dict[str, Any]] = asyncio.Queue(64)

        def on_status(message: Message) -> None:
            with suppress(msgspec.DecodeError, UnicodeDecodeError, asyncio.QueueFull):
                statuses.put_nowait(msgspec.json.decode(message.payload, type=dict[str, Any]))

        visit.subscribe(f"{base}/status", on_status, qos=1)
        before = await _next(statuses, name) if wait else {}
        await _published(visit, Message(base if lists else f"{base}/timestamp", payload, qos=1, retain=True))
        while wait:
            status = await _next(statuses, name)
            if status.get("refused") not in (None, before.get("refused")):
                return status | {"answer": "refused"}
            if _version(status) >= max(lists) if lists else status != before:
                return status | {"answer": "taken"}
    return {"thing": name, "answer": "sent"}


def _version(status: Mapping[str, Any]) -> int:
    """The version of the list that a device says it has; 0 where it says none."""
    keys = status.get("keys")
    version = keys.get("version") if isinstance(keys, dict) else None
    return version if isinstance(version, int) else 0


async def _published(visit: Visit, message: Message) -> None:
    given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def delivered(error: Exception | None) -> None:
        if not given.done():
            given.set_exception(error) if error else given.set_result(None)

    visit.publish(message, delivered)
    try:
        await asyncio.wait_for(given, _PATIENCE_S)
    except TimeoutError:
        raise UnreachableError("the broker did not take it in time", code="not-sent") from None


async def _next(statuses: asyncio.Queue[dict[str, Any]], thing: str) -> dict[str, Any]:
    try:
        return await asyncio.wait_for(statuses.get(), _PATIENCE_S)
    except TimeoutError:
        hint = "is it online, and does its configuration name keys: deployments.trusted_keys or trust_list?"
        raise UnreachableError(f"{thing} says nothing of its keys", code="no-trust-status", hint=hint) from None


@click.command("status")
@click.option("--thing", "--to", default="", metavar="THING", help="The device.  [default: the only one there is]")
@json_option
@broker_options
def _status(config: Config, thing: str, as_json: bool) -> None:
    """Show what a device trusts, and since when.

    That is its key list, how old the newest signed word is, and what it refused last.

    \b
    Examples:
      verge trust status --to press-7
      verge trust status --to press-7 --json
    """  # noqa: D301 click reads the backspace
    status = loop.run(_status_of(config, thing_option(config, thing)))
    if as_json:
        print_json(status)
    else:
        _show_status(status)


async def _status_of(config: Config, thing: str) -> dict[str, Any]:
    async with remote.link(config) as visit:
        name = thing or await remote.thing_of(visit, config.status.prefix)
        topic = f"{remote.base_of(name, config.status.prefix)}/trust/status"
        found = await remote.retained(visit, [topic])
    if topic not in found:
        hint = "its configuration names no keys: deployments.trusted_keys or trust_list"
        raise UnreachableError(f"{name} says nothing of its keys", code="no-trust-status", hint=hint)
    return found[topic]


@click.command("reset")
@click.option("--data-dir", type=_PATH, metavar="DIR", help="The device's data folder.")
@click.option("-c", "--config", "path", type=_PATH, metavar="FILE", help="The agent's TOML file, which names it.")
@json_option
def _reset(data_dir: Path | None, path: Path | None, as_json: bool) -> None:
    """On the device: forget the key list.

    At its next start it begins anew with the configuration's keys.  For a device whose list nobody can replace any
    more, since the keys of its root are lost, and for a keyring that is damaged.  Whoever was revoked by a list is
    trusted again if the configuration names him.

    \b
    Examples:
      verge trust reset --config /etc/verge/verge.toml
      verge trust reset --data-dir /var/lib/verge
    """  # noqa: D301 click reads the backspace
    folder = _folder(data_dir, path)
    file = KeyringFile(Layout(folder).trust)
    try:
        there = file.remove()
    except OSError as error:
        raise ConfigError(f"{file.paths[0]} cannot be removed: {error.strerror}", code="not-written") from error
    if as_json:
        print_json({"data_dir": str(folder), "reset": there})
    else:
        echo(f"{folder}: the key list is forgotten; restart the agent" if there else f"{folder}: there is no key list")


COMMANDS = (_list, _send, _status, _reset)


def _folder(data_dir: Path | None, path: Path | None) -> Path:
    if data_dir is not None:
        return data_dir
    if path is None:
        raise click.UsageError("say which: LIST, --data-dir DIR or --config FILE")
    return Path(load(path).data_dir)


# -- shown -------------------------------------------------------------------------------------------------------------


def _show(keys: Mapping[str, Any], note: str) -> None:
    from rich.markup import escape  # noqa: PLC0415 slow, and only for people

    from agent.cli.tables import console, table  # noqa: PLC0415 as above

    out = console()
    until = f", until {local_time(keys['expires'])}" if keys.get("expires") else ""
    issued = f", issued {local_time(keys['issued'])}" if keys.get("issued") else ""
    named = f"key list {keys['version']}" if keys["version"] else "the configuration's keys"
    out.print(f"[bold]{escape(named)}[/]{escape(issued + until)}: {escape(note)}\n", soft_wrap=True)
    made = table("role", "signatures", "keys", "components", "things", "groups", whole=("role", "signatures", "keys"))
    for name in ("root", "timestamp"):
        what = "key lists" if name == "root" else "timestamps"
        made.add_row(*_row(name, keys[name]), f"[dim]{what}[/]", "", "")
    for name, role in keys["roles"].items():
        made.add_row(*_row(name, role), *(escape("\n".join(role[key])) for key in ("components", "things", "groups")))
    out.print(made)


def _row(name: str, role: Mapping[str, Any]) -> tuple[str, str, str]:
    from rich.markup import escape  # noqa: PLC0415 as above

    return escape(name), f"{role['threshold']} of {len(role['keys'])}", escape("\n".join(role["keys"]))


class _Holders(msgspec.Struct, frozen=True):
    keys: list[str]
    threshold: int


class _Role(_Holders, frozen=True):
    components: list[str]
    things: list[str]
    groups: list[str]


class _Keys(msgspec.Struct, frozen=True):
    version: int
    root: _Holders
    timestamp: _Holders
    roles: dict[str, _Role]
    issued: str | None = None
    expires: str | None = None


class _Word(msgspec.Struct, frozen=True):
    kind: str
    at: str


class _Refused(msgspec.Struct, frozen=True):
    at: str
    reason: str


class _Status(msgspec.Struct, frozen=True):
    """What is shown of a device's status; whoever may write its topic has written it."""

    thing: str
    keys: _Keys
    last_word: _Word | None = None
    refused: _Refused | None = None
    max_silence_s: float | None = None


def _show_status(read: Mapping[str, Any]) -> None:
    try:
        msgspec.convert(read, _Status)
    except msgspec.ValidationError as error:
        raise UnreachableError(
            f"what stands on the broker of the device's keys cannot be read: {error}", code="bad-answer",
            hint="an agent of another version wrote it, or somebody else did: --json shows it",
        ) from error  # fmt: skip
    status = shown_within(read)
    keys, word = status["keys"], status.get("last_word")
    _show(
        keys,
        "expired: nothing that its keys sign counts"
        if keys.get("expired")
        else f"in use on {status['thing']}, as it said at {local_time(str(status.get('at')))}",
    )
    if word:
        echo(f"\nthe newest signed word is of {local_time(str(word['at']))} ({word['kind']})")
    else:
        echo("\nno signed word came so far")
    if status.get("silent"):
        longest = status.get("max_silence_s") or 0
        echo(f"that is longer ago than {longest:g} s: it takes only what was signed within that time")
    if status.get("missing_list"):
        echo(f"key list {status['missing_list']} is being kept from it: nothing signed counts until it comes")
    if status.get("trouble"):
        echo(str(status["trouble"]))
    if refused := status.get("refused"):
        hint = f"\n  {refused['hint']}" if refused.get("hint") else ""
        echo(f"refused at {local_time(str(refused['at']))}: {refused['reason']}{hint}")
