"""What Greengrass accepts and a person should know: each check yields findings about one recipe.

The checks see the recipe as devices will: manifest by manifest, with selections applied and the default
configuration in the variables.  Values that come from elsewhere (a dependency, a deployment) are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from agent.config.strict import nearest
from agent.greengrass.recipes.configuration import MISSING, find, tokens
from agent.greengrass.recipes.errors import Level, LifecycleError, LintFinding
from agent.greengrass.recipes.lifecycle import ERROR_RESET, ON_ROLLBACK, SETENV, STEP_KEYS, StepName, parse, select
from agent.greengrass.recipes.platform import is_wild, regex
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.uris import uri_problem
from agent.greengrass.recipes.variables import NAMESPACES, Context, Placeholder, Values, interpolate, placeholders

__all__ = ["check"]

_SCHEMES: Final = frozenset(("s3", "greengrass", "docker", "file", "https"))
_LIFECYCLE_KEYS: Final = (*StepName, SETENV, ERROR_RESET)
_PLATFORM_START = re.compile(r"[A-Za-z0-9*/]")


def check(recipe: Recipe) -> tuple[LintFinding, ...]:
    """Everything worth knowing about a recipe that loads, each thing once."""
    return tuple(dict.fromkeys(finding for check in _CHECKS for finding in check(recipe)))


def _manifests(recipe: Recipe) -> Iterator[tuple[str, Manifest]]:
    return ((f"Manifests[{number}]", manifest) for number, manifest in enumerate(recipe.manifests))


def _chosen(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The lifecycle that each manifest runs, and where it stands."""
    for path, manifest in _manifests(recipe):
        yield f"{path}.Lifecycle" if manifest.lifecycle else "Lifecycle", select(recipe, manifest)


def _self_dependency(recipe: Recipe) -> Iterator[LintFinding]:
    if recipe.name in recipe.dependencies:
        path = f"ComponentDependencies.{recipe.name}"
        yield LintFinding(
            Level.ERROR, path, "the component depends on itself, which no deployment resolves", "remove it"
        )


def _platforms(recipe: Recipe) -> Iterator[LintFinding]:
    for path, manifest in _manifests(recipe):
        for key, value in manifest.platform.items():
            where = f"{path}.Platform.{key}"
            if key != key.lower():
                hint = f"write {key.lower()}"
                yield LintFinding(Level.WARNING, where, f"platform keys are exact: no device has {key}", hint)
            if value is None:
                continue
            if (expression := regex(value)) is not None:
                yield from _expression(where, expression)
            elif not _PLATFORM_START.match(value):
                hint = "write a plain word, * or /regex/"
                yield LintFinding(Level.ERROR, where, f"{value!r} matches no device", hint)


def _expression(where: str, expression: str) -> Iterator[LintFinding]:
    try:
        re.compile(expression)
    except re.error as error:
        message = f"/{expression}/ is no regular expression, so it matches no device: {error}"
        yield LintFinding(Level.ERROR, where, message, "mend the expression")


def _shadowed(recipe: Recipe) -> Iterator[LintFinding]:
    """Manifests behind one that takes their devices first."""
    before: dict[tuple[tuple[str, str | None], ...], str] = {}
    for path, manifest in _manifests(recipe):
        wanted = tuple(sorted(item for item in manifest.platform.items() if not is_wild(*item)))
        taken = next((earlier for template, earlier in before.items() if set(template) <= set(wanted)), None)
        if taken:
            message = f"no device gets this manifest: {taken} matches first, wherever it would"
            yield LintFinding(Level.WARNING, path, message, f"move it before {taken}, or narrow that one's Platform")
        before.setdefault(wanted, path)


def _selections(recipe: Recipe) -> Iterator[LintFinding]:
    for path, manifest in _manifests(recipe):
        if manifest.lifecycle and manifest.selections:
            message = "the manifest has its own Lifecycle: its Selections choose nothing"
            yield LintFinding(Level.WARNING, f"{path}.Selections", message, "remove one of the two")
    if recipe.lifecycle and all(manifest.lifecycle for manifest in recipe.manifests):
        message = "every manifest has its own Lifecycle: this one is never used"
        yield LintFinding(Level.WARNING, "Lifecycle", message, "remove it, or theirs")


def _artifacts(recipe: Recipe) -> Iterator[LintFinding]:
    for path, manifest in _manifests(recipe):
        for number, artifact in enumerate(manifest.artifacts):
            yield from _uri(f"{path}.Artifacts[{number}].Uri", artifact.uri)
        names = Counter(_file_name(artifact.uri) for artifact in manifest.artifacts)
        for name in (name for name, count in names.items() if name and count > 1):
            message = f"{names[name]} artifacts are called {name}: they land in one folder, and one remains"
            yield LintFinding(Level.ERROR, f"{path}.Artifacts", message, "give every one a name of its own")


def _uri(where: str, uri: str) -> Iterator[LintFinding]:
    problem = uri_problem(uri)
    if problem is not None:
        message = f"{uri} {problem.message}" if uri else problem.message
        yield LintFinding(Level.ERROR, where, f"{message} [{problem.code}]", problem.hint)
        return
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        known = ", ".join(sorted(_SCHEMES))
        yield LintFinding(Level.ERROR, where, f"no store serves {parts.scheme}: URIs", f"known: {known}")
    elif parts.scheme == "s3" and not (parts.netloc and parts.path.strip("/")):
        message = f"{uri} names no object: it loads only where the file is already present"
        yield LintFinding(Level.WARNING, where, message, "write s3://BUCKET/KEY")


def _file_name(uri: str) -> str | None:
    """The name under which an artifact is stored; images of containers have none, nor has what cannot be asked for."""
    parts = urlsplit(uri) if uri_problem(uri) is None else None
    if parts is None or parts.scheme == "docker":
        return None
    return parts.path.rsplit("/", 1)[-1] or parts.netloc


def _steps(recipe: Recipe) -> Iterator[LintFinding]:
    """Steps that cannot be read, that exclude each other, and keys that mean nothing."""
    for path, lifecycle in _chosen(recipe):
        known = {key.lower() for key in lifecycle}
        if {"run", "startup"} <= known:
            message = "Startup and Run stand side by side: Run is used only where Startup is empty or skipped"
            yield LintFinding(Level.WARNING, path, message, "keep one of them")
        yield from _keys(path, lifecycle)
        yield from _unreadable(path, recipe, lifecycle)


def _keys(path: str, lifecycle: Mapping[str, Any]) -> Iterator[LintFinding]:
    yield from _unknown(path, lifecycle, _LIFECYCLE_KEYS)
    steps = {name.lower() for name in StepName}
    for key, step in lifecycle.items():
        if key.lower() in steps and isinstance(step, Mapping):
            yield from _unknown(f"{path}.{key}", step, (*STEP_KEYS, ON_ROLLBACK))


def _unknown(path: str, section: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[LintFinding]:
    lowered = {key.lower() for key in known}
    for key in section:
        if key.lower() not in lowered:
            hint = nearest(key, known) or f"known here: {', '.join(known)}"
            yield LintFinding(Level.WARNING, f"{path}.{key}", f"the key {key} means nothing here", hint)


def _unreadable(path: str, recipe: Recipe, lifecycle: Mapping[str, Any]) -> Iterator[LintFinding]:
    own = Values.under("/", recipe.name, recipe.version, recipe.configuration)
    interpolated = interpolate(lifecycle, Context(own, root="/", thing_name="thing"))
    for key, step in interpolated.lifecycle.items():
        try:
            parse({key: step}, recipe.name, path)
        except LifecycleError as error:
            if "{" not in error.message:  # else a variable that only a device can fill
                message = error.message.removeprefix(f"{recipe.name}: ")
                yield LintFinding(Level.ERROR, error.path, message, f"devices report {error.code}")


def _variables(recipe: Recipe) -> Iterator[LintFinding]:
    for path, lifecycle in _chosen(recipe):
        for where, text in _texts(path, lifecycle):
            for variable in placeholders(text):
                if problem := _problem(recipe, variable):
                    message, hint = problem
                    yield LintFinding(Level.WARNING, where, f"{variable.text} stays as it is: {message}", hint)


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(f"{path}[{number}]", inner)


def _problem(recipe: Recipe, variable: Placeholder) -> tuple[str, str | None] | None:
    """Why a variable has no value, and what to do; None when it has one, or is no variable at all."""
    namespace, component = variable.namespace, variable.component
    if namespace not in NAMESPACES:
        guess = nearest(namespace, NAMESPACES)
        return (f"there is no namespace {namespace}", guess) if guess else None
    if component is not None and component not in recipe.dependencies:
        hint = nearest(component, recipe.dependencies) or "add it to ComponentDependencies"
        return f"{component} is no direct dependency", hint
    if component is not None and namespace in {"kernel", "iot"}:
        return f"{namespace} belongs to no component", f"write {{{namespace}:{variable.key}}}"
    return _key_problem(recipe, variable)


def _key_problem(recipe: Recipe, variable: Placeholder) -> tuple[str, str | None] | None:
    keys, key = NAMESPACES[variable.namespace], variable.key
    if keys is not None:
        hint = nearest(key, keys) or f"known: {', '.join(keys)}"
        return None if key in keys else (f"{variable.namespace} has no {key}", hint)
    if tokens(key) is None:
        return f"{key} is no JSON pointer", f"write /{key}"
    if variable.component is None and find(recipe.configuration, key) is MISSING:
        return f"the default configuration has no {key}", "add a default, or have every deployment set it"
    return None


_CHECKS: Final[tuple[Callable[[Recipe], Iterator[LintFinding]], ...]] = (
    _self_dependency,
    _platforms,
    _shadowed,
    _selections,
    _artifacts,
    _steps,
    _variables,
)
