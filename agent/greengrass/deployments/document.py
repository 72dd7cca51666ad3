"""A deployment's document → its value (``request``).

Three forms are read:

- Greengrass's document from the cloud: ``components`` is everything the group wants from now on; what its owner wrote
  for ``aws greengrassv2 create-deployment`` (``componentVersion``, ``merge`` as the text of an object) is one too;
- its local form: ``componentsToMerge`` and ``componentsToRemove`` change what the group wants;
- Verge's short form, which is the first with nothing that a broker of one's own does not know::

      {"components": {"com.acme.detect": {"version": "^1.2.0", "configurationUpdate": {"merge": {…}}}},
       "canary": {"frames": 200, "agreement": 0.95}, "recipes": ["RecipeFormatVersion: …"]}

  or ``{"rollback": true}``: back to the set before the active one.

Keys that mean nothing are ignored, as Greengrass does; what means something is read strictly, and an error names its
place.  Numbers may be floats, null is absent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from agent.config.strict import convert
from agent.errors import ConfigError, InvalidInputError
from agent.greengrass.deployments.errors import DeploymentError, DeploymentRejectedError
from agent.greengrass.deployments.request import (
    LOCAL_GROUP,
    Canary,
    ComponentRequest,
    Deployment,
    FailurePolicy,
    Origin,
    RunWith,
)
from agent.greengrass.recipes import reader
from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement

__all__ = ["CAPABILITIES", "MAX_BYTES", "JsonNode", "deeper_than", "parse", "whole"]

CAPABILITIES: Final = frozenset(("LINUX_RESOURCE_LIMITS", "SUB_DEPLOYMENTS"))
"""What a document may require.  LARGE_CONFIGURATION is not among them: it means that the document is cut short, and
AWS documents no path under which its data plane has the whole one."""
_CUT_SHORT: Final = "LARGE_CONFIGURATION"

MAX_BYTES: Final = 10 * 1024 * 1024
_MAX_DEPTH: Final = 64
_MAX_ID = 512
_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,128}")
_ID = re.compile(r"[^\x00-\x1f\x7f+#\ud800-\udfff]+")
_CONFIGURATION_ARN = re.compile(r"arn:[^:]+:greengrass:[^:]*:[^:]*:configuration:(.+):[^:]+")
_GROUP_ARN = re.compile(r"arn:[^:]+:[^:]*:[^:]*:[^:]*:(?:configuration:)?(thinggroup/[^:/]+)(?::[^:]*)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LOCAL_KEYS = ("componentsToMerge", "componentsToRemove", "configurationUpdate", "componentToRunWithInfo", "requestId")
_ASKING_KEYS = ("components", "componentsToMerge", "componentsToRemove", "configurationUpdate", "recipes", "canary")
_MEANT = ("components", "configurationArn", "rollback")
"""A cloud document names its configuration, and may leave out empty components."""
_FOLDER_KEYS = ("recipeDirectoryPath", "artifactsDirectoryPath")


def parse(
    document: Mapping[str, Any] | bytes, *, source: Origin, received_ms: int, job_id: str | None = None
) -> Deployment:
    """Read a document in any of its forms; ``received_ms`` is its time where it has none.

    Raises:
        DeploymentRejectedError: it is another kind of document: an AWS managed template.
        DeploymentError: it cannot be used; the sentence names the place.
    """
    root = JsonNode("", _opened(document))
    if root.get("steps").value is not None:
        raise DeploymentRejectedError(
            "the document is an AWS managed job template (it has steps); Verge takes Greengrass deployments",
            hint="send a document with components",
        )
    local = any(root.get(key).value is not None for key in _LOCAL_KEYS)
    if local and root.get("components").value is not None:
        raise root.get("components").wrong("either components or componentsToMerge and its kin")
    arn = root.get("configurationArn").text() or None
    timestamp = root.get("creationTimestamp", "requestTimestamp").whole()
    deployment = Deployment(
        id=_id(root, source, arn, job_id) or _made_up_id(root, received_ms),
        source=source,
        group=_group(root, arn),
        timestamp_ms=received_ms if timestamp is None else timestamp,
        revision_arn=arn,
        components=_merged(root) if local else _components(root),
        additive=local,
        remove=root.get("componentsToRemove").texts(),
        failure_policy=root.get("failureHandlingPolicy").word(FailurePolicy)
        or (FailurePolicy.DO_NOTHING if local else FailurePolicy.ROLLBACK),
        capabilities=_capabilities(root),
        canary=_canary(root.get("canary")),
        recipes=_recipes(root),
        job_id=job_id,
        rollback=_rollback(root),
    )
    if not local and not any(root.get(key).value is not None for key in _MEANT):
        keys = ", ".join(sorted(map(str, root.object()))[:5]) or "nothing"
        raise DeploymentError(
            f"the document says nothing of what is wanted; it has {keys}",
            hint='{"components": {}} takes everything away, {"components": {"NAME": {"version": …}}} brings something',
        )
    return deployment


def _opened(document: Mapping[str, Any] | bytes) -> Mapping[str, Any]:
    opened: Any = document
    if isinstance(document, bytes):
        if len(document) > MAX_BYTES:
            raise DeploymentError(
                f"the document has {len(document)} bytes; {MAX_BYTES} is the most",
                code="DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED",
            )
        try:
            opened = msgspec.json.decode(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DeploymentError(
                f"the document is not JSON: {error}", code="DEPLOYMENT_DOCUMENT_PARSE_ERROR"
            ) from error
    if not isinstance(opened, Mapping) or not opened:
        raise DeploymentError("the document is not a JSON object, or an empty one", code="EMPTY_DEPLOYMENT_REQUEST")
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
    name = root.get("groupName")
    if not name.text():
        return LOCAL_GROUP
    if ":" in name.required():
        raise name.wrong("the name of a group, without a colon")
    return "thinggroup/" + name.required().removeprefix("thinggroup/")


def _components(root: JsonNode) -> dict[str, ComponentRequest]:
    return {
        _name(key, node): ComponentRequest(
            requirement=_requirement(node.get("version", "componentVersion")),
            merge=_merge(node.get("configurationUpdate")),
            reset=node.get("configurationUpdate").get("reset", "RESET").texts(),
            run_with=_run_with(node.get("runWith")),
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
            run_with=_run_with(users.get(key)),
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
        raise node.wrong("a version or a range of versions", hint=error.hint) from error


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


def _run_with(node: JsonNode) -> RunWith | None:
    if node.value is None:
        return None
    limits = node.get("systemResourceLimits")
    return RunWith(
        posix_user=node.get("posixUser").text() or None,
        windows_user=node.get("windowsUser").text() or None,
        memory_kb=limits.get("memory").whole(1),
        cpus=_cpus(limits.get("cpus")),
        given=frozenset({"posixUser", "windowsUser", "systemResourceLimits"} & node.object().keys()),
    )


def _cpus(node: JsonNode) -> float | None:
    cpus = node.number()
    if cpus == 0:
        raise node.wrong("a number of processors, more than 0")
    return cpus


def _capabilities(root: JsonNode) -> tuple[str, ...]:
    asked = root.get("requiredCapabilities").texts()
    if lacking := [capability for capability in asked if capability not in CAPABILITIES]:
        smaller = "the document came cut short: deploy a smaller one, of at most 31 KB (7 KB to a single thing)"
        raise DeploymentError(
            f"the deployment requires {', '.join(lacking)}, which this agent does not have",
            hint=smaller if _CUT_SHORT in lacking else f"it has {', '.join(sorted(CAPABILITIES))}",
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
