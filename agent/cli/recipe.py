"""``verge recipe``: component recipes, without a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from agent.cli.output import echo, json_option, print_json, styled
from agent.greengrass.catalog import absent
from agent.greengrass.recipes import lint, reader
from agent.greengrass.recipes.errors import Level, LintFinding, RecipeError
from agent.greengrass.recipes.recipe import Recipe

__all__ = ["command"]

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow"}


@click.group("recipe")
def command() -> None:
    """Component recipes, format 2020-01-25: those of Greengrass, and Verge's own.

    \b
    Example:
      verge recipe check recipe.yaml
    """  # noqa: D301 click reads the backspace


@command.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@json_option
def check(files: Sequence[Path], as_json: bool) -> None:
    """Tell what devices would refuse in recipes, and what loads but is probably not meant.

    The exit status is 1 when a recipe cannot work as it is written.

    \b
    Examples:
      verge recipe check recipe.yaml
      verge recipe check recipes/*.json --json
    """  # noqa: D301 click reads the backspace
    checked = [(path, *_checked(path)) for path in files]
    if as_json:
        print_json([_json(path, recipe, findings) for path, recipe, findings in checked])
    else:
        for path, recipe, findings in checked:
            _show(path, recipe, findings)
    if any(finding.level is Level.ERROR for _, _, findings in checked for finding in findings):
        raise click.exceptions.Exit(1)


def _checked(path: Path) -> tuple[Recipe | None, tuple[LintFinding, ...]]:
    """What is to be said of one file; whatever its check runs into is said of it, and no other file suffers."""
    recipe = None
    try:
        recipe, warnings = reader.read(path)
        return recipe, (*warnings, *lint.check(recipe), *absent.check(recipe))
    except RecipeError as error:
        message = error.message.removeprefix(f"{path}: ").removeprefix(f"{path} ")
        return None, (LintFinding(Level.ERROR, error.path, f"{message} [{error.code}]", error.hint),)
    except Exception as error:  # noqa: BLE001 a file is a stranger's
        message = f"it could not be checked: {type(error).__name__}: {error}"
        return recipe, (
            LintFinding(Level.ERROR, "", message, "this is a defect of the check: report it with the file"),
        )


def _show(path: Path, recipe: Recipe | None, findings: Sequence[LintFinding]) -> None:
    name = styled(str(path), bold=True)
    if recipe is None:
        echo(styled("refused", fg="red"), "  ", name)
    else:
        good = styled("ok     ", fg="green") if not findings else styled("loads  ", fg="yellow")
        echo(good, "  ", name, f"  {_summary(recipe)}")
    for finding in findings:
        level = styled(f"{finding.level:7}", fg=_COLOURS[finding.level])
        where = f"{finding.path}: " if finding.path and not finding.message.startswith(finding.path) else ""
        echo("  ", level, f"  {where}{finding.message}")
        if finding.hint:
            echo(f"           {finding.hint}", dim=True)


def _summary(recipe: Recipe) -> str:
    count = len(recipe.manifests)
    parts = [f"{recipe.name} {recipe.version}", f"{count} manifest{'s' if count > 1 else ''}"]
    if needed := len(recipe.dependencies):
        parts.append(f"{needed} dependenc{'ies' if needed > 1 else 'y'}")
    return ", ".join(parts)


def _json(path: Path, recipe: Recipe | None, findings: Sequence[LintFinding]) -> dict[str, Any]:
    return {
        "file": str(path),
        "loads": recipe is not None,
        "name": recipe.name if recipe else None,
        "version": str(recipe.version) if recipe else None,
        "findings": list(findings),
    }
