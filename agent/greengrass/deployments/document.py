"""A deployment's document → its value (``request``).

Three forms are read:

- Greengrass's document from the cloud: ``components`` is everything the group wants from now on; what its owner wrote
  for ``aws greengrassv2 create-deployment``, or what ``get-deployment`` prints, is one too (``componentVersion``,
  ``merge`` as the text of an object, ``targetArn``, ``deploymentPolicies``, times of ISO 8601 or in seconds);
- its local form: ``componentsToMerge`` and ``componentsToRemove`` change what the group wants;
- Verge's short form, which is the first with nothing that a broker of one's own does not know::

      {"components": {"com.acme.detect": {"version": "^1.2.0", "configurationUpdate": {"merge": {…}}}},
       "canary": {"frames": 200, "agreement": 0.95}, "recipes": ["RecipeFormatVersion: …"]}

  or ``{"rollback": true}``: back to the set before the active one.

Keys that mean nothing are ignored, as Greengrass does; what means something is read strictly, and an error names its
place.  Numbers may be floats, null is absent.

In the first and the last form a component without ``runWith``, or without one of its keys, goes back to the defaults;
in the local form what is not given stays as it was.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from agent.config.strict import convert
from agent.errors import ConfigError, InvalidInputError
from agent.greengrass.deployments.request import (
    LOCAL_GROUP,
    LOCAL_NOTIFY,
    Canary,
    ComponentRequest,
    Deployment,
    FailurePolicy,
    NotifyPolicy,
    Origin,
    RunWith,
    UpdateAction,
)
from agent.greengrass.errors import DeploymentError, DeploymentRejectedError
from agent.greengrass.recipes import reader, templates
from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement
from agent.text import trimmed

__all__ = ["CAPABILITIES", "MAX_BYTES", "JsonNode", "deeper_than", "is_foreign", "parse", "whole"]

CAPABILITIES: Final = frozenset(("LINUX_RESOURCE_LIMITS", "SUB_DEPLOYMENTS"))
"""What a document may require.  LARGE_CONFIGURATION is not among them: it means that the document is cut short, and
AWS documents no path under which its data plane has the whole one."""
_CUT_SHORT: Final = "LARGE_CONFIGURATION"
_WAY_OUT: Final = (
    "deploy a smaller one, of at most 31 KB (7 KB to a single thing): put large values into the DefaultConfiguration "
    "of a new component version or into an artifact; or send the whole document by `verge deploy`: up to 10 MB"
)

MAX_BYTES: Final = 10 * 1024 * 1024
_MAX_DEPTH: Final = 64
_MAX_ID = 512
_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,128}")
_ID = re.compile(r"[^\x00-\x1f\x7f+#\ud800-\udfff]+")
_CONFIGURATION_ARN = re.compile(r"arn:[^:]+:greengrass:[^:]*:[^:]*:configuration:(.+):[^:]+")
_GROUP_ARN = re.compile(r"arn:[^:]+:[^:]*:[^:]*:[^:]*:(?:configuration:)?(thinggroup/[^:/]+)(?::[^:]*)?")
_TARGET_ARN = re.compile(r"arn:[^:]+:iot:[^:]*:[^:]*:(thing(?:group)?/[^/]+)")
_SECONDS: Final = range(10**9, 10**11)
"""What is a time in seconds, as AWS's APIs print it: as milliseconds these were the years 1970 to 1973."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LOCAL_KEYS = ("componentsToMerge", "componentsToRemove", "configurationUpdate", "componentToRunWithInfo", "requestId")
_ASKING_KEYS = ("components", "componentsToMerge", "componentsToRemove", "configurationUpdate", "recipes", "canary")
_MEANT = ("components", "configurationArn", "rollback")
"""A cloud document names its configuration, and may leave out empty components."""
_OURS = frozenset((*_MEANT, *_ASKING_KEYS, *_LOCAL_KEYS, "deploymentId", "signatures")) - {"requestId"}
_FOLDER_KEYS = ("recipeDirectoryPath", "artifactsDirectoryPath")


def parse(
    document: Mapping[str, Any] | bytes, *, source: Origin, received_ms: int, job_id: str | None = None
) -> Deployment:
    """Read a document in any of its forms; ``received_ms`` is its time where it has none.

    Raises:
        DeploymentRejectedError: it is another kind of document: an AWS managed template, a job for another agent.
        DeploymentError: it cannot be used; the sentence names the place.
    """
    # A job that is none of ours is no deployment that failed: others count failures to break a roll-out off.
    refusal = DeploymentRejectedError if source is Origin.JOB else DeploymentError
    root = JsonNode("", _opened(document, refusal))
    if root.get("steps").value is not None:
        raise DeploymentRejectedError(
            "the document is an AWS managed job template (it has steps); Verge takes Greengrass deployments",
            hint="send a document with components",
        )
    if "previous" in root.object():
        raise DeploymentRejectedError(
            "the document is an agent's answer about what is live (it has previous), not one about what is wanted",
            hint="send a document with components; take previous out of it",
        )
    local = any(root.get(key).value is not None for key in _LOCAL_KEYS)
    if local and root.get("components").value is not None:
        raise root.get("components").wrong("either components or componentsToMerge and its kin")
    arn = root.get("configurationArn").text() or None
    timestamp = _time_ms(root.get("creationTimestamp", "requestTimestamp"))
    deployment = Deployment(
        id=_id(root, source, arn, job_id) or _made_up_id(root, received_ms),
        source=source,
        group=_group(root, arn),
        timestamp_ms=received_ms if timestamp is None else timestamp,
        own_ms=timestamp,
        revision_arn=arn,
        components=_merged(root) if local else _components(root),
        additive=local,
        remove=root.get("componentsToRemove").texts(),
        failure_policy=_policy(root, "failureHandlingPolicy").word(FailurePolicy)
        or (FailurePolicy.DO_NOTHING if local else FailurePolicy.ROLLBACK),
        notify=_notify(root, local=local),
        capabilities=_capabilities(root),
        canary=_canary(root.get("canary")),
        recipes=_recipes(root),
        job_id=job_id,
        rollback=_rollback(root),
    )
    if not local and not any(root.get(key).value is not None for key in _MEANT):
        keys = ", ".join(sorted(map(str, root.object()))[:5]) or "nothing"
        raise refusal(
            f"the document says nothing of what is wanted; it has {keys}",
            hint='{"components": {}} takes everything away, {"components": {"NAME": {"version": …}}} brings something',
        )
    return deployment


def is_foreign(document: bytes) -> bool:
    """Whether a job's document is for another agent: an object in which nothing is of a deployment.

    >>> is_foreign(b'{"operation": "reboot"}'), is_foreign(b'{"deploymentId": "d", "component": {}}'), is_foreign(b"")
    (True, False, False)
    """
    try:
        keys = msgspec.json.decode(document, type=dict[str, msgspec.Raw]).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(keys) and ("steps" in keys or not keys & _OURS)


def _opened(document: Mapping[str, Any] | bytes, refusal: type[DeploymentError]) -> Mapping[str, Any]:
    opened: Any = document
    if isinstance(document, bytes):
        if len(document) > MAX_BYTES:
            raise DeploymentError(
                f"the document has {len(document)} bytes; {MAX_BYTES} is the most",
                code="DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED",
            )
        try:
            opened = msgspec.json.decode(trimmed(document))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise refusal(f"the document is not JSON: {error}", code="DEPLOYMENT_DOCUMENT_PARSE_ERROR") from error
    if not isinstance(opened, Mapping) or not opened:
        raise refusal("the document is not a JSON object, or an empty one", code="EMPTY_DEPLOYMENT_REQUEST")
    if deeper_than(opened, _MAX_DEPTH):
        raise DeploymentError(f"the document nests deeper than {_MAX_DEPTH} levels")
    return opened


def _id(root: JsonNode, source: Origin, arn: str | None, job_id: str | None) -> str | None:
    node = root.get("deploymentId", "requestId")
    # A shadow holds one document per revision, whatever id that says.
    identity = (arn if source is Origin.SHADOW else None) or node.text() or job_id
    if identity and (len(identity) > _MAX_ID or not _ID.fullmatch(identity)):
        raise node.wrong(f"an id of at most {_MAX_ID} characters, without +, # and control characters")
    return identity


def _made_up_id(root: JsonNode, received_ms: int) -> str:
    try:
        text = msgspec.json.encode(root.value, order="deterministic")
    except (TypeError, ValueError, RecursionError) as error:
        raise DeploymentError(f"the document holds what JSON does not know: {error}") from error
    return hashlib.sha256(b"%d:%b" % (received_ms, text)).hexdigest()[:16]


def _group(root: JsonNode, arn: str | None) -> str:
    behalf = root.get("onBehalfOf")
    if behalf.value is not None:
        match = _GROUP_ARN.fullmatch(behalf.required())
        if not match:
            raise behalf.wrong("the ARN of a thing group")
        return match.group(1)
    if arn is not None:
        match = _CONFIGURATION_ARN.fullmatch(arn)
        return match.group(1) if match else arn
    target = root.get("targetArn")
    if target.text():
        match = _TARGET_ARN.fullmatch(target.required())
        if not match:
            raise target.wrong("the ARN of a thing or of a thing group", hint="arn:aws:iot:REGION:ACCOUNT:thing/NAME")
        return match.group(1)
    name = root.get("groupName")
    if not name.text():
        return LOCAL_GROUP
    if ":" in name.required():
        raise name.wrong("the name of a group, without a colon")
    return "thinggroup/" + name.required().removeprefix("thinggroup/")


def _time_ms(node: JsonNode) -> int | None:
    """A time in milliseconds: written so, in seconds, or in ISO 8601 (UTC where it names no zone)."""
    if not isinstance(node.value, str):
        number = node.number()
        if number is not None and math.floor(number) in _SECONDS:
            return round(number * 1000)
        return node.whole()
    try:
        moment = datetime.fromisoformat(node.value)
    except ValueError as error:
        raise node.wrong("a time: milliseconds since 1970, or ISO 8601 such as 2026-11-28T12:00:00Z") from error
    since_1970 = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    return JsonNode(node.path, since_1970 // timedelta(milliseconds=1)).whole()


def _policy(root: JsonNode, key: str) -> JsonNode:
    """A policy as the device's document has it, or among the ``deploymentPolicies`` of ``create-deployment``."""
    own = root.get(key)
    return own if own.value is not None else root.get("deploymentPolicies").get(key)


def _notify(root: JsonNode, *, local: bool) -> NotifyPolicy:
    usual = LOCAL_NOTIFY if local else NotifyPolicy()
    update, validation = _policy(root, "componentUpdatePolicy"), _policy(root, "configurationValidationPolicy")
    update_s = update.get("timeout", "timeoutInSeconds").number()
    validation_s = validation.get("timeout", "timeoutInSeconds").number()
    return NotifyPolicy(
        update.get("action").word(UpdateAction) or usual.action,
        usual.update_timeout_s if update_s is None else update_s,
        usual.validation_timeout_s if validation_s is None else validation_s,
    )


def _components(root: JsonNode) -> dict[str, ComponentRequest]:
    return {
        _name(key, node): ComponentRequest(
            requirement=_requirement(node.get("version", "componentVersion")),
            merge=_merge(node.get("configurationUpdate")),
            reset=node.get("configurationUpdate").get("reset", "RESET").texts(),
            run_with=_run_with(node.get("runWith"), whole=True),
        )
        for key, node in root.get("components").entries()
    }


def _merged(root: JsonNode) -> dict[str, ComponentRequest]:
    """The components of a local document, whose parts stand apart."""
    for key in _FOLDER_KEYS:
        if root.get(key).value:
            raise root.get(key).wrong(
                "nothing: a document cannot point into folders", hint="put the recipes into recipes"
            )
    updates, users = root.get("configurationUpdate"), root.get("componentToRunWithInfo")
    versions = root.get("componentsToMerge")
    nodes = {key: node for part in (updates, users, versions) for key, node in part.entries()}
    return {
        _name(key, node): ComponentRequest(
            requirement=_requirement(versions.get(key)) if key in versions.object() else None,
            merge=_merge(updates.get(key)),
            reset=updates.get(key).get("reset", "RESET").texts(),
            run_with=None if users.get(key).value is None else _run_with(users.get(key)),
        )
        for key, node in nodes.items()
    }


_METADATA = "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT"


def _name(name: str, node: JsonNode) -> str:
    if not _NAME.fullmatch(name):
        raise JsonNode(node.path, name).wrong("the name of a component", code=_METADATA)
    return name


def _requirement(node: JsonNode) -> Requirement:
    if not (text := node.text()):
        raise node.wrong("a version or a range of versions", hint='"version": "1.2.0" or "^1.2.0"', code=_METADATA)
    try:
        return Requirement.parse(text)
    except RecipeError as error:
        hint = templates.HINT if templates.placeholder(text) else error.hint
        raise node.wrong("a version or a range of versions", hint=hint) from error


def _merge(node: JsonNode) -> dict[str, Any] | None:
    merge = node.get("merge", "MERGE")
    if isinstance(merge.value, str):
        try:
            merge = JsonNode(merge.path, msgspec.json.decode(merge.value))
        except (msgspec.DecodeError, RecursionError) as error:
            raise merge.wrong("an object, or the text of one") from error
        if deeper_than(merge.value, _MAX_DEPTH):
            raise DeploymentError(f"{merge.path} nests deeper than {_MAX_DEPTH} levels", path=merge.path)
    return None if merge.value is None else dict(merge.object())


def _run_with(node: JsonNode, *, whole: bool = False) -> RunWith:
    limits = node.get("systemResourceLimits")
    return RunWith(
        posix_user=node.get("posixUser").text() or None,
        windows_user=node.get("windowsUser").text() or None,
        memory_kb=limits.get("memory").whole(1),
        cpus=_cpus(limits.get("cpus")),
        given=frozenset({"posixUser", "windowsUser", "systemResourceLimits"} & node.object().keys()),
        whole=whole,
    )


def _cpus(node: JsonNode) -> float | None:
    cpus = node.number()
    if cpus == 0:
        raise node.wrong("a number of processors, more than 0")
    return cpus


def _capabilities(root: JsonNode) -> tuple[str, ...]:
    asked = root.get("requiredCapabilities").texts()
    if lacking := [capability for capability in asked if capability not in CAPABILITIES]:
        cut_short = _CUT_SHORT in lacking
        why = ": the configuration was too large for the document, which came without it" if cut_short else ""
        raise DeploymentError(
            f"the deployment requires {', '.join(lacking)}, which this agent does not have{why}",
            hint=_WAY_OUT if cut_short else f"it has {', '.join(sorted(CAPABILITIES))}",
            code="NUCLEUS_MISSING_REQUIRED_CAPABILITIES",
        )
    return asked


def _canary(node: JsonNode) -> Canary | None:
    if node.value is None:
        return None
    try:
        canary = convert(Canary, whole(node.value), "canary")
    except ConfigError as error:
        raise DeploymentError(error.message, path=error.path, hint=error.hint) from error
    if (canary.frames is None) == (canary.seconds is None):
        raise node.wrong("either frames or seconds", hint='"canary": {"frames": 200}')
    if canary.timeout_s is not None and canary.timeout_s < (canary.seconds or 0):
        raise node.get("timeout_s").wrong("at least the seconds of the trial")
    return canary


def _rollback(root: JsonNode) -> bool:
    node = root.get("rollback")
    if node.value is not None and not isinstance(node.value, bool):
        raise node.wrong("true or false")
    if node.value and (asked := [key for key in _ASKING_KEYS if root.get(key).value is not None]):
        raise node.wrong(f"nothing: a rollback goes back to what was, so {asked[0]} has no place beside it")
    return bool(node.value)


def _recipes(root: JsonNode) -> tuple[Recipe, ...]:
    recipes: dict[tuple[str, str], Recipe] = {}
    for node in root.get("recipes").items():
        recipe = _recipe(node)
        key = recipe.name, str(recipe.version)
        if recipes.setdefault(key, recipe) != recipe:
            raise DeploymentError(f"{node.path} is another recipe of {recipe.name} {recipe.version}", path=node.path)
    return tuple(recipes.values())


def _recipe(node: JsonNode) -> Recipe:
    text = node.value if isinstance(node.value, str) else msgspec.json.encode(node.object())
    try:
        return reader.parse(_decoded(text) if isinstance(text, str) else text, node.path)
    except InvalidInputError as error:
        raise DeploymentError(error.message, path=error.path, hint=error.hint) from error


def _decoded(text: str) -> str | bytes:
    """The recipe in base64, as Greengrass sends it; a recipe's own text has a colon, which base64 has not."""
    dense = "".join(text.split())
    if not _BASE64.fullmatch(dense):
        return text
    try:
        return base64.b64decode(dense, validate=True)
    except binascii.Error:
        return text


# -- reading JSON with its paths ---------------------------------------------------------------------------------------

_SHOWN = 80
_KINDS = {dict: "an object", list: "a list", type(None): "nothing"}
_LARGEST = 2**63 - 1

Words = TypeVar("Words", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class JsonNode:
    """A value of a document with its path, for errors that name both; the value None is absent."""

    path: str
    value: Any

    def get(self, *keys: str) -> JsonNode:
        """The entry under the first of the keys that is there and not null; absent where there is none."""
        entries = self.object()
        key = next((key for key in keys if entries.get(key) is not None), keys[0])
        return JsonNode(f"{self.path}.{key}" if self.path else key, entries.get(key))

    def entries(self) -> Iterator[tuple[str, JsonNode]]:
        """The entries of an object; none of an absent one."""
        for key, value in self.object().items():
            shown = key if len(key) <= _SHOWN else key[: _SHOWN - 1] + "…"
            yield key, JsonNode(f"{self.path}.{shown}" if self.path else shown, value)

    def object(self) -> Mapping[str, Any]:
        """An object as it is; empty where it is absent."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return self.value

    def items(self) -> Iterator[JsonNode]:
        """The items of a list; none of an absent one."""
        if self.value is None:
            return
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        for number, value in enumerate(self.value):
            yield JsonNode(f"{self.path}[{number}]", value)

    def text(self) -> str | None:
        """A text, or None where it is absent."""
        if self.value is None or isinstance(self.value, str):
            return self.value
        raise self.wrong("a text")

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.required() for item in self.items())

    def required(self) -> str:
        """A text that has to be there."""
        if isinstance(self.value, str):
            return self.value
        raise self.wrong("a text")

    def number(self, low: float = 0) -> float | None:
        """A number of at least ``low``, or None where it is absent."""
        value = self.value
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= _LARGEST:
            raise self.wrong(f"a number, {low:g} or more")
        return value

    def whole(self, low: int = 0) -> int | None:
        """A whole number of at least ``low``, perhaps written as a float; None where it is absent."""
        value = self.number(low)
        return None if value is None else math.floor(value)

    def word(self, words: type[Words]) -> Words | None:
        """One of the words of an enumeration, in any case; None where it is absent."""
        if self.value is None:
            return None
        known = {word.value.upper(): word for word in words}
        word = known.get(self.value.upper()) if isinstance(self.value, str) else None
        if word is None:
            raise self.wrong("one of " + ", ".join(words))
        return word

    def wrong(self, expected: str, *, hint: str | None = None, code: str | None = None) -> DeploymentError:
        """The error that names the path, the value and what was expected."""
        message = f"{self.path} is {_shown(self.value)}: expected {expected}"
        return DeploymentError(message, path=self.path, hint=hint, code=code)


def deeper_than(value: Any, depth: int) -> bool:
    """Whether plain data nests deeper; nothing here recurses."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def whole(value: Any) -> Any:
    """Plain data with whole floats as the whole numbers that they were before a cloud wrote them."""
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _shown(value: Any) -> str:
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
