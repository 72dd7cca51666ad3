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
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agent.config.strict import convert
from agent.errors import ConfigError, InvalidInputError
from agent.greengrass.deployments.canary import Canary
from agent.greengrass.deployments.errors import DeploymentError, DeploymentRejectedError
from agent.greengrass.deployments.field import MAX_DEPTH, Field, deeper_than, whole
from agent.greengrass.deployments.request import LOCAL_GROUP, Deployment, FailurePolicy, RunWith, Source, Wanted
from agent.greengrass.recipes import reader
from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement

__all__ = [
    "CAPABILITIES",
    "LOCAL_GROUP",
    "MAX_BYTES",
    "Deployment",
    "FailurePolicy",
    "RunWith",
    "Source",
    "Wanted",
    "parse",
]

CAPABILITIES: Final = frozenset(("LINUX_RESOURCE_LIMITS", "SUB_DEPLOYMENTS"))
"""What a document may require.  LARGE_CONFIGURATION is not among them: it means that the document is cut short, and
AWS documents no path under which its data plane has the whole one."""
_CUT_SHORT: Final = "LARGE_CONFIGURATION"

MAX_BYTES: Final = 10 * 1024 * 1024
_MAX_ID = 512
_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,128}")
_ID = re.compile(r"[^\x00-\x1f\x7f+#\ud800-\udfff]+")
_CONFIGURATION_ARN = re.compile(r"arn:[^:]+:greengrass:[^:]*:[^:]*:configuration:(.+):[^:]+")
_GROUP_ARN = re.compile(r"arn:[^:]+:[^:]*:[^:]*:[^:]*:(?:configuration:)?(thinggroup/[^:/]+)(?::[^:]*)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_LOCAL_KEYS = ("componentsToMerge", "componentsToRemove", "configurationUpdate", "componentToRunWithInfo", "requestId")
_WISHES = ("components", "componentsToMerge", "componentsToRemove", "configurationUpdate", "recipes", "canary")
_MEANT = ("components", "configurationArn", "rollback")
"""A cloud document names its configuration, and may leave out empty components."""
_FOLDER_KEYS = ("recipeDirectoryPath", "artifactsDirectoryPath")


def parse(
    document: Mapping[str, Any] | bytes, *, source: Source, received_ms: int, job_id: str | None = None
) -> Deployment:
    """Read a document in any of its forms; ``received_ms`` is its time where it tells none.

    Raises:
        DeploymentRejectedError: it is another kind of document: an AWS managed template.
        DeploymentError: it cannot be used; the sentence names the place.
    """
    root = Field("", _opened(document))
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
        wanted=_merged(root) if local else _components(root),
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
        told = ", ".join(sorted(map(str, root.object()))[:5]) or "nothing"
        raise DeploymentError(
            f"the document says nothing of what is wanted; it has {told}",
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
    if deeper_than(opened, MAX_DEPTH):
        raise DeploymentError(f"the document nests deeper than {MAX_DEPTH} levels")
    return opened


def _id(root: Field, source: Source, arn: str | None, job_id: str | None) -> str | None:
    place = root.get("deploymentId", "requestId")
    # A shadow holds one document per revision, whatever id that says.
    told = (arn if source is Source.SHADOW else None) or place.text() or job_id
    if told and (len(told) > _MAX_ID or not _ID.fullmatch(told)):
        raise place.wrong(f"an id of at most {_MAX_ID} characters, without +, # and control characters")
    return told


def _made_up_id(root: Field, received_ms: int) -> str:
    try:
        text = msgspec.json.encode(root.value, order="deterministic")
    except (TypeError, ValueError, RecursionError) as error:
        raise DeploymentError(f"the document holds what JSON does not know: {error}") from error
    return hashlib.sha256(b"%d:%b" % (received_ms, text)).hexdigest()[:16]


def _group(root: Field, arn: str | None) -> str:
    behalf = root.get("onBehalfOf")
    if behalf.value is not None:
        found = _GROUP_ARN.fullmatch(behalf.required())
        if not found:
            raise behalf.wrong("the ARN of a thing group")
        return found.group(1)
    if arn is not None:
        found = _CONFIGURATION_ARN.fullmatch(arn)
        return found.group(1) if found else arn
    name = root.get("groupName")
    if not name.text():
        return LOCAL_GROUP
    if ":" in name.required():
        raise name.wrong("the name of a group, without a colon")
    return "thinggroup/" + name.required().removeprefix("thinggroup/")


def _components(root: Field) -> dict[str, Wanted]:
    return {
        _name(key, place): Wanted(
            requirement=_requirement(place.get("version", "componentVersion")),
            merge=_merge(place.get("configurationUpdate")),
            reset=place.get("configurationUpdate").get("reset", "RESET").texts(),
            run_with=_run_with(place.get("runWith")),
        )
        for key, place in root.get("components").entries()
    }


def _merged(root: Field) -> dict[str, Wanted]:
    """The components of a local document, whose parts stand apart."""
    for key in _FOLDER_KEYS:
        if root.get(key).value:
            raise root.get(key).wrong(
                "nothing: a document cannot point into folders", hint="put the recipes into recipes"
            )
    updates, users = root.get("configurationUpdate"), root.get("componentToRunWithInfo")
    versions = root.get("componentsToMerge")
    places = {key: place for part in (updates, users, versions) for key, place in part.entries()}
    return {
        _name(key, place): Wanted(
            requirement=_requirement(versions.get(key)) if key in versions.object() else None,
            merge=_merge(updates.get(key)),
            reset=updates.get(key).get("reset", "RESET").texts(),
            run_with=_run_with(users.get(key)),
        )
        for key, place in places.items()
    }


_METADATA = "COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT"


def _name(name: str, place: Field) -> str:
    if not _NAME.fullmatch(name):
        raise Field(place.path, name).wrong("the name of a component", code=_METADATA)
    return name


def _requirement(place: Field) -> Requirement:
    if not (text := place.text()):
        raise place.wrong("a version or a range of versions", hint='"version": "1.2.0" or "^1.2.0"', code=_METADATA)
    try:
        return Requirement.parse(text)
    except RecipeError as error:
        raise place.wrong("a version or a range of versions", hint=error.hint) from error


def _merge(place: Field) -> dict[str, Any] | None:
    merge = place.get("merge", "MERGE")
    if isinstance(merge.value, str):
        try:
            merge = Field(merge.path, msgspec.json.decode(merge.value))
        except (msgspec.DecodeError, RecursionError) as error:
            raise merge.wrong("an object, or the text of one") from error
        if deeper_than(merge.value, MAX_DEPTH):
            raise DeploymentError(f"{merge.path} nests deeper than {MAX_DEPTH} levels")
    return None if merge.value is None else dict(merge.object())


def _run_with(place: Field) -> RunWith | None:
    if place.value is None:
        return None
    limits = place.get("systemResourceLimits")
    return RunWith(
        posix_user=place.get("posixUser").text() or None,
        windows_user=place.get("windowsUser").text() or None,
        memory_kb=limits.get("memory").whole(1),
        cpus=_cpus(limits.get("cpus")),
        said=frozenset({"posixUser", "windowsUser", "systemResourceLimits"} & place.object().keys()),
    )


def _cpus(place: Field) -> float | None:
    cpus = place.number()
    if cpus == 0:
        raise place.wrong("a number of processors, more than 0")
    return cpus


def _capabilities(root: Field) -> tuple[str, ...]:
    asked = root.get("requiredCapabilities").texts()
    if lacking := [each for each in asked if each not in CAPABILITIES]:
        smaller = "the document came cut short: deploy a smaller one, of at most 31 KB (7 KB to a single thing)"
        raise DeploymentError(
            f"the deployment requires {', '.join(lacking)}, which this agent does not have",
            hint=smaller if _CUT_SHORT in lacking else f"it has {', '.join(sorted(CAPABILITIES))}",
            code="NUCLEUS_MISSING_REQUIRED_CAPABILITIES",
        )
    return asked


def _canary(place: Field) -> Canary | None:
    if place.value is None:
        return None
    try:
        canary = convert(Canary, whole(place.value), "canary")
    except ConfigError as error:
        raise DeploymentError(error.message, hint=error.hint) from error
    if (canary.frames is None) == (canary.seconds is None):
        raise place.wrong("either frames or seconds", hint='"canary": {"frames": 200}')
    return canary


def _rollback(root: Field) -> bool:
    place = root.get("rollback")
    if place.value is not None and not isinstance(place.value, bool):
        raise place.wrong("true or false")
    if place.value and (asked := [key for key in _WISHES if root.get(key).value is not None]):
        raise place.wrong(f"nothing: a rollback goes back to what was, so {asked[0]} has no place beside it")
    return bool(place.value)


def _recipes(root: Field) -> tuple[Recipe, ...]:
    recipes: dict[tuple[str, str], Recipe] = {}
    for place in root.get("recipes").items():
        recipe = _recipe(place)
        key = recipe.name, str(recipe.version)
        if recipes.setdefault(key, recipe) != recipe:
            raise DeploymentError(f"{place.path} is another recipe of {recipe.name} {recipe.version}")
    return tuple(recipes.values())


def _recipe(place: Field) -> Recipe:
    text = place.value if isinstance(place.value, str) else msgspec.json.encode(place.object())
    try:
        return reader.parse(_decoded(text) if isinstance(text, str) else text, place.path)
    except InvalidInputError as error:
        raise DeploymentError(error.message, hint=error.hint) from error


def _decoded(text: str) -> str | bytes:
    """The recipe in base64, as Greengrass sends it; a recipe's own text has a colon, which base64 has not."""
    dense = "".join(text.split())
    if not _BASE64.fullmatch(dense):
        return text
    try:
        return base64.b64decode(dense, validate=True)
    except binascii.Error:
        return text
