"""Documents that ask for no deployment: one is cancelled, or components are restarted or stopped.

They come where documents come, from whoever may deploy, and are answered on their response topic::

    {"cancel": "ID"}         {"id": "ID", "result": "CANCELED", "reason": "it had changed nothing that is live"}
    {"restart": ["NAME"]}    {"restart": ["NAME"], "result": "RESTARTED", "components": {"NAME": {"state": "RUNNING"}}}
    {"stop": ["NAME"]}       {"stop": ["NAME"], "result": "STOPPED", "components": {"NAME": {"state": "FINISHED"}}}

``thing``, ``expires`` and ``creationTimestamp`` are as in every document.  The result of a cancellation is CANCELED,
TOO_LATE (it changes what is live, or has ended) or UNKNOWN; that of the others RESTARTED or STOPPED, FAILED (one is not
as it should be now), REFUSED (one cannot be) or UNKNOWN (one is not there): then nothing is done with any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from agent.greengrass.deployments.outcome import Outcome
from agent.greengrass.deployments.queue import Fate
from agent.greengrass.errors import DeploymentError, DeploymentRejectedError
from agent.text import trimmed

__all__ = ["COMMANDS", "Command", "CommandResult", "Verb", "cancelled", "command", "controlled", "refused"]

COMMANDS: Final = "COMMANDS"
"""The group of commands in the order of documents."""
_LONGEST: Final = 16_384
_CLAIMS: Final = frozenset(("thing", "expires", "creationTimestamp", "requestTimestamp"))


class Verb(StrEnum):
    """What a command asks for; its key in the document."""

    CANCEL = "cancel"
    RESTART = "restart"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Command:
    """What is asked for: the id of a deployment, or the names of components; ``time_ms`` is the document's own time."""

    verb: Verb
    names: tuple[str, ...]
    time_ms: int | None = None


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=64)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Document(msgspec.Struct, frozen=True):
    cancel: _Name | None = None
    restart: _Name | _Names | None = None
    stop: _Name | _Names | None = None
    created: _Time | None = msgspec.field(default=None, name="creationTimestamp")
    requested: _Time | None = msgspec.field(default=None, name="requestTimestamp")


def command(document: bytes) -> Command | None:
    """What a document asks for that is no deployment; None for any other document.

    Raises ``DeploymentError`` for a command that cannot be read.

    >>> command(b'{"restart": ["com.a", "com.b"], "thing": "press-7"}')
    Command(verb=<Verb.RESTART: 'restart'>, names=('com.a', 'com.b'), time_ms=None)
    >>> command(b'{"components": {}}')
    """
    if len(document) > _LONGEST:
        return None
    document = trimmed(document)
    try:
        keys = msgspec.json.decode(document, type=dict[str, msgspec.Raw]).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    verbs = [verb for verb in Verb if verb.value in keys]
    if not verbs:
        return None
    if unknown := sorted(keys - _CLAIMS - {verbs[0].value}):
        raise DeploymentError(
            f"a document with {verbs[0].value} has nothing else in it, and here is {unknown[0]}",
            hint="send one document for each",
        )
    return _read(document, verbs[0])


def _read(document: bytes, verb: Verb) -> Command:
    try:
        read = msgspec.json.decode(document, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DeploymentError(f"it cannot be read what to {verb.value}: {error}", hint=_forms(verb)) from error
    named: str | tuple[str, ...] | None = getattr(read, verb.value)
    if named is None:
        raise DeploymentError(f"{verb.value} names nothing", hint=_forms(verb))
    names = (named,) if isinstance(named, str) else tuple(dict.fromkeys(named))
    return Command(verb, names, read.created if read.created is not None else read.requested)


def _forms(verb: Verb) -> str:
    return (
        '{"cancel": "ID"} cancels a deployment' if verb is Verb.CANCEL else f'{{"{verb.value}": ["NAME"]}} names them'
    )


# -- answers ----------------------------------------------------------------------------------------------------------


class CommandResult(StrEnum):
    """What came of a restart or a stop."""

    RESTARTED = "RESTARTED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"


def controlled(asked: Command, components: Mapping[str, Mapping[str, Any]], *, failed: bool) -> dict[str, Any]:
    """The answer to a restart or a stop that was carried out."""
    done = CommandResult.RESTARTED if asked.verb is Verb.RESTART else CommandResult.STOPPED
    result = CommandResult.FAILED if failed else done
    return {asked.verb.value: list(asked.names), "result": result.value, "components": dict(components)}


def refused(asked: Command, error: DeploymentRejectedError) -> dict[str, Any]:
    """The answer to one that was not."""
    result = CommandResult.UNKNOWN if error.code == "RESOURCE_NOT_FOUND" else CommandResult.REFUSED
    hint = {"hint": error.hint} if error.hint else {}
    return {asked.verb.value: list(asked.names), "result": result.value, "reason": error.message, **hint}


_RESULTS: Final = {
    Fate.WAITING: ("CANCELED", "it waited in the queue and is not begun"),
    Fate.STOPPABLE: ("CANCELED", "it had changed nothing that is live"),
    Fate.TOO_LATE: ("TOO_LATE", "it changes what is live already; verge rollback goes back once it has ended"),
    Fate.UNKNOWN: ("UNKNOWN", "there is no deployment with that id here; verge deployments lists them"),
}


def cancelled(identity: str, fate: Fate, ended: Outcome | None = None) -> dict[str, Any]:
    """The answer to a cancellation: what became of it, by where the deployment was or how it had ``ended``."""
    result, reason = _RESULTS[fate] if ended is None else ("TOO_LATE", f"it has ended: {ended.status.value}")
    return {"id": identity, "result": result, "reason": reason}
