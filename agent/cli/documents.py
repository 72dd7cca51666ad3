"""The options of ``verge deploy`` → the document that is sent.

Components by name make Greengrass's local form, which changes the root components of a group.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import ConfigError
from agent.greengrass.catalog import scalars
from agent.greengrass.trust.signatures import SignedEnvelope
from agent.text import trimmed

__all__ = [
    "asked_in",
    "identity_in",
    "limits_of",
    "local_document",
    "read_document",
    "run_with_of",
    "update_of",
]


def local_document(
    identity: str, *, components: Mapping[str, str], remove: Sequence[str], update: Mapping[str, Any], group: str,
    run_with: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The local document for these components."""
    head = {"requestId": identity, "failureHandlingPolicy": "ROLLBACK"}
    parts = {
        "componentsToMerge": dict(components),
        "componentsToRemove": list(remove),
        "configurationUpdate": dict(update),
        "componentToRunWithInfo": dict(run_with or {}),
        "groupName": group,
    }
    return head | {key: value for key, value in parts.items() if value}


def read_document(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A document's bytes and the JSON object in them; raises ``ConfigError``."""
    try:
        content = trimmed(path.read_bytes())
        document = msgspec.json.decode(content)
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _wrong(f"{path} is no deployment document: it is not a JSON object")
    return content, document


def asked_in(path: Path) -> dict[str, str]:
    """The versions that a document asks for, by component; raises as ``read_document``."""
    _, document = read_document(path)
    asked: dict[str, object] = {}
    for key in ("components", "componentsToMerge"):
        listed = document.get(key)
        asked |= listed if isinstance(listed, dict) else {}
    versions = {name: _version_in(said) for name, said in asked.items()}
    return {name: version for name, version in versions.items() if isinstance(version, str)}


def _version_in(said: object) -> object:
    return said.get("version", said.get("componentVersion")) if isinstance(said, dict) else said


def identity_in(document: Mapping[str, Any]) -> str | None:
    """The id that a document has, in an envelope too; None where the agent will make one up."""
    if "signatures" in document:
        try:
            opened = json.loads(base64.b64decode(msgspec.convert(document, SignedEnvelope).document))
        except (msgspec.ValidationError, ValueError) as error:
            raise _wrong(f"the envelope cannot be read: {error}", "sign it again: verge trust sign") from error
        document = opened if isinstance(opened, dict) else {}
    identity = document.get("deploymentId") or document.get("requestId")
    return identity if isinstance(identity, str) else None


def update_of(text: str, components: Collection[str] = ()) -> dict[str, Any]:
    """``--config``: JSON, or a file of it: component → ``{"MERGE": {…}, "RESET": ["/…"]}``.

    Where only one of ``components`` is deployed, what is to be merged into its configuration will do.
    """
    if text.lstrip().startswith("{"):
        try:
            updates = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise _wrong(f"--config is not JSON: {error}") from error
    else:
        _, updates = read_document(Path(text))
    strangers = [name for name, update in updates.items() if not _is_update(update)]
    if len(components) == 1 and updates and len(strangers) == len(updates) and not updates.keys() & set(components):
        return {next(iter(components)): {"MERGE": dict(updates)}}
    if strangers:
        raise _wrong(f"--config: {strangers[0]} is not an update", '{"COMPONENT": {"MERGE": {…}, "RESET": ["/key"]}}')
    return dict(updates)


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.keys() <= {"MERGE", "RESET", "merge", "reset"}


_UNITS = {"": 1, "K": 1, "M": 1024, "G": 1024**2}
_MEMORY = re.compile(r"([0-9]+)(?:([KMG])(?:i?B)?)?", re.IGNORECASE)
_NOTHING = "none"
_LIMITS = "such as com.acme.Detect=memory=512M,cpus=1.5, or =none for no limits"


def run_with_of(users: Sequence[str], limits: Sequence[str]) -> dict[str, Any]:
    """``--run-with NAME=USER[:GROUP]`` and ``--limits NAME=memory=512M,cpus=1.5``: component → what changes of it.

    >>> run_with_of(["a=www:web", "b="], ["a=memory=512M,cpus=0.5"])["a"]
    {'posixUser': 'www:web', 'systemResourceLimits': {'memory': 524288, 'cpus': 0.5}}
    """
    changes: dict[str, dict[str, Any]] = {}
    for text in users:
        name, equals, user = text.partition("=")
        if not name or not equals or user.startswith(":"):
            message = f"--run-with: {text!r} is not NAME=USER[:GROUP]"
            raise _wrong(message, "such as com.acme.Detect=www-data, or com.acme.Detect= for the default user")
        changes.setdefault(name, {})["posixUser"] = user or None
    for text in limits:
        name, _, written = text.partition("=")
        if not name or not written:
            raise _wrong(f"--limits: {text!r} is not NAME=LIMITS", _LIMITS)
        changes.setdefault(name, {})["systemResourceLimits"] = limits_of(written)
    return changes


def limits_of(text: str) -> dict[str, Any] | None:
    """``memory=512M,cpus=1.5`` as Greengrass has it, memory in KiB; None for ``none``.

    >>> limits_of("cpus=2"), limits_of("none")
    ({'cpus': 2.0}, None)
    """
    if text.lower() == _NOTHING:
        return None
    limits: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        size = _MEMORY.fullmatch(value) if key == "memory" else None
        if key == "cpus" and _is_positive(value):
            limits[key] = float(value)
        elif size and int(size[1]):
            limits[key] = int(size[1]) * _UNITS[(size[2] or "").upper()]
        else:
            raise _wrong(f"--limits: {part!r} is neither memory=SIZE nor cpus=NUMBER", _LIMITS)
    return limits


def _is_positive(text: str) -> bool:
    number = scalars.number(text)
    return number is not None and number > 0


def _wrong(message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, code="not-deployable", hint=hint)
