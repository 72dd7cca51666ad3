"""A recipe's text → its value: everything that Greengrass accepts loads, what it refuses is refused with the place.

Keys that the format knows are matched in any case, and so are the words of its enumerations.  What belongs to the
author (platforms, lifecycles, configuration, names of components) keeps its spelling.  Null means absent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from agent.config.strict import nearest
from agent.greengrass.recipes.document import MAX_BYTES, Document, Place, load
from agent.greengrass.recipes.errors import Level, LintFinding, RecipeUnreadableError, VersionError
from agent.greengrass.recipes.recipe import (
    FORMAT,
    Artifact,
    ComponentType,
    Dependency,
    Manifest,
    Permission,
    Recipe,
    Unarchive,
)
from agent.greengrass.recipes.templates import HINT, placeholder
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["parse", "parse_with_warnings", "read"]

_RECIPE = (
    "RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription",
    "ComponentPublisher", "ComponentSource", "ComponentConfiguration", "ComponentDependencies", "Manifests",
    "Lifecycle",
)  # fmt: skip
_REQUIRED = {
    "RecipeFormatVersion": FORMAT,
    "ComponentName": "the component's name",
    "ComponentVersion": "a version MAJOR.MINOR.PATCH",
}
_CONFIGURATION = ("DefaultConfiguration",)
_DEPENDENCY = ("VersionRequirement", "DependencyType")
_MANIFEST = ("Name", "Platform", "Lifecycle", "Selections", "Artifacts")
_ARTIFACT = ("Uri", "Unarchive", "Permission", "Digest", "Algorithm")
_PERMISSION = ("Read", "Execute")

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,128}")
_NAME_TOLD = "1 to 128 letters, digits, dots, underscores and hyphens"
_DOTS = frozenset((".", ".."))
_GUESSES = 100
"""For how many unknown keys a near one is sought: it is slow, and a document may hold a hundred thousand."""
_HARD = {"hard": True, "soft": False}


def parse(text: bytes | str, name: str) -> Recipe:
    """Read a recipe; ``name`` is the document's, for the error.  Raises ``RecipeError``."""
    return parse_with_warnings(text, name)[0]


def parse_with_warnings(text: bytes | str, name: str) -> tuple[Recipe, tuple[LintFinding, ...]]:
    """The recipe, and the keys in it that mean nothing or stand twice.  Raises ``RecipeError``."""
    document = load(text, name)
    reader = _Reader()
    recipe = reader.recipe(Place(name, "", document.value))
    return recipe, (*_repeated(document), *reader.findings)


def read(path: Path) -> tuple[Recipe, tuple[LintFinding, ...]]:
    """Read a recipe's file, as ``parse_with_warnings`` does.  Raises ``RecipeError``."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeUnreadableError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    return parse_with_warnings(text, str(path))


def _repeated(document: Document) -> list[LintFinding]:
    hint = "the last one counts; remove the others"
    keys = dict.fromkeys(document.repeated)
    return [LintFinding(Level.WARNING, key, f"the key {key} stands twice in one mapping", hint) for key in keys]


class _Reader:
    """Reads places into values and collects what it stumbles over."""

    def __init__(self) -> None:
        self.findings: list[LintFinding] = []

    def recipe(self, place: Place) -> Recipe:
        fields = self._fields(place, _RECIPE)
        if lacking := next((key for key in _REQUIRED if key not in fields), None):
            raise place.missing(lacking, _REQUIRED[lacking])
        if fields["RecipeFormatVersion"].text() != FORMAT:
            raise fields["RecipeFormatVersion"].wrong(FORMAT)
        manifests = fields.get("Manifests")
        recipe = Recipe(
            name=_component_name(fields["ComponentName"]),
            version=_version(fields["ComponentVersion"]),
            type=fields["ComponentType"].word(ComponentType) if "ComponentType" in fields else ComponentType.GENERIC,
            description=_text(fields.get("ComponentDescription")),
            publisher=_text(fields.get("ComponentPublisher")),
            source=_text(fields.get("ComponentSource")),
            configuration=self._configuration(fields.get("ComponentConfiguration")),
            dependencies=self._dependencies(fields.get("ComponentDependencies")),
            manifests=tuple(self._manifest(entry) for entry in manifests.items()) if manifests else (),
            lifecycle=fields["Lifecycle"].data() if "Lifecycle" in fields else {},
        )
        if not recipe.manifests:
            raise place.missing("Manifests", "at least one manifest", code="RECIPE_MISSING_MANIFEST")
        return recipe

    def _configuration(self, place: Place | None) -> dict[str, object]:
        fields = self._fields(place, _CONFIGURATION) if place else {}
        return fields["DefaultConfiguration"].data() if fields else {}

    def _dependencies(self, place: Place | None) -> dict[str, Dependency]:
        return {key: self._dependency(key, entry) for key, entry in place.entries()} if place else {}

    def _dependency(self, name: str, place: Place) -> Dependency:
        _refuse_template(Place(place.source, place.path, name), "COMPONENT_DEPENDENCY_NOT_VALID")
        if not _is_name(name):
            expected = f"a component's name, which has {_NAME_TOLD}"
            raise Place(place.source, place.path, name).wrong(expected, code="COMPONENT_DEPENDENCY_NOT_VALID")
        fields = self._fields(place, _DEPENDENCY)
        requirement = fields.get("VersionRequirement")
        if requirement is None:
            raise place.missing("VersionRequirement", "a version requirement such as ~2.1.0")
        kind = fields.get("DependencyType")
        hard = _HARD.get(kind.text().lower()) if kind else True
        if kind and hard is None:
            raise kind.wrong("one of HARD, SOFT")
        return Dependency(_requirement(requirement), hard=bool(hard))

    def _manifest(self, place: Place) -> Manifest:
        fields = self._fields(place, _MANIFEST)
        platform, selections, artifacts = (fields.get(key) for key in ("Platform", "Selections", "Artifacts"))
        return Manifest(
            name=_text(fields.get("Name")),
            platform={key: _text(entry) for key, entry in platform.entries()} if platform else {},
            lifecycle=fields["Lifecycle"].data() if "Lifecycle" in fields else {},
            selections=tuple(entry.text() for entry in selections.items()) if selections else (),
            artifacts=tuple(self._artifact(entry) for entry in artifacts.items()) if artifacts else (),
        )

    def _artifact(self, place: Place) -> Artifact:
        fields = self._fields(place, _ARTIFACT)
        granted = self._fields(fields["Permission"], _PERMISSION) if "Permission" in fields else {}
        read, execute = granted.get("Read"), granted.get("Execute")
        may_read = read.word(Permission) if read else Permission.OWNER
        may_execute = execute.word(Permission) if execute else Permission.NONE
        return Artifact(
            uri=_uri(fields["Uri"]) if "Uri" in fields else "",
            unarchive=fields["Unarchive"].word(Unarchive) if "Unarchive" in fields else Unarchive.NONE,
            # Who may execute a file may read it.
            read=max(may_read, may_execute, key=list(Permission).index),
            execute=may_execute,
            digest=_text(fields.get("Digest")),
            algorithm=_text(fields.get("Algorithm")),
        )

    def _fields(self, place: Place, known: Sequence[str]) -> dict[str, Place]:
        """The entries that the format knows and that are not null, by their canonical names."""
        spelled = {key.lower(): key for key in known}
        fields: dict[str, Place] = {}
        for key, entry in place.entries():
            name = spelled.get(key.lower())
            if name is None:
                guess = nearest(key, known) if len(self.findings) < _GUESSES else None
                hint = guess or f"known here: {', '.join(known)}"
                self.findings.append(LintFinding(Level.WARNING, entry.path, f"the key {key} means nothing here", hint))
            elif name in fields:
                message = f"the key {name} stands here in two spellings"
                self.findings.append(
                    LintFinding(Level.WARNING, entry.path, message, "the last one counts; remove the other")
                )
            if name is not None:
                fields[name] = entry
        return {name: entry for name, entry in fields.items() if entry.value is not None}


def _text(place: Place | None) -> str | None:
    return place.text() if place and place.value is not None else None


def _refuse_template(place: Place, code: str | None = None) -> None:
    """Raise where a value still waits for the build that fills it in."""
    value = place.value
    if isinstance(value, dict) and list(value.values()) == [None]:
        # YAML's reading of {NAME} without quotes.
        value = f"{{{next(iter(value))}}}"
    if isinstance(value, str) and (waits := placeholder(value)):
        expected = f"what a build puts in place of {waits}: the recipe is a template"
        raise Place(place.source, place.path, value).wrong(expected, hint=HINT, code=code)


def _component_name(place: Place) -> str:
    _refuse_template(place)
    name = place.text()
    if not _is_name(name):
        raise place.wrong(_NAME_TOLD)
    return name


def _is_name(text: str) -> bool:
    # Names become names of folders.
    return _NAME.fullmatch(text) is not None and text not in _DOTS


def _version(place: Place) -> Version:
    _refuse_template(place, VersionError.default_code)
    try:
        return Version.parse(place.text())
    except VersionError as error:
        raise place.wrong("a version MAJOR.MINOR.PATCH", kind=VersionError, hint=error.hint) from error


def _requirement(place: Place) -> Requirement:
    _refuse_template(place, VersionError.default_code)
    try:
        return Requirement.parse(place.text())
    except VersionError as error:
        raise place.wrong("a version requirement", kind=VersionError, hint=error.hint) from error


def _uri(place: Place) -> str:
    """Any text: whether it is of use matters where the manifest is chosen (``uris``)."""
    return place.text()
