"""AWS's own components that the agent does not offer, and what to do without each.

What a name says of its publisher: ``aws.greengrass.labs.`` is the community's, whose recipes anybody may publish; the
rest of ``aws.`` is AWS's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from agent.greengrass.catalog import parts
from agent.greengrass.catalog.amazon import COMPONENTS
from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.recipes.errors import Level, LintFinding
from agent.greengrass.recipes.recipe import Recipe

__all__ = ["Absent", "absent", "check"]


class Absent(NamedTuple):
    """Why there is no such component, and what to do."""

    message: str
    hint: str


_PREFIXES: Final = ("aws.greengrass.", "aws.iot.")
_COMMUNITY: Final = "aws.greengrass.labs."


def absent(name: str) -> Absent | None:
    """What is to be said of a component that is AWS's own; None for one of anybody else's.

    >>> absent("aws.greengrass.SNS").message
    "aws.greengrass.SNS is AWS's own component, which Verge does not offer (yet)"
    """
    if name.startswith(_COMMUNITY):
        return Absent(
            f"{name} is a component of Greengrass's community, which Verge does not bring along",
            "send its recipe along: verge deploy --recipes DIR --artifacts DIR",
        )
    if not name.startswith(_PREFIXES) or name in ENTRIES or name in parts.NAMES:
        return None
    known = COMPONENTS.get(name)
    without = "take it out of ComponentDependencies if the component works without it"
    return Absent(
        f"{name} is AWS's own component, which Verge does not offer (yet)",
        f"{without}; {known.instead}" if known else without,
    )


def check(recipe: Recipe) -> Iterator[LintFinding]:
    """What a recipe depends on that the agent does not offer."""
    for name in recipe.dependencies:
        if missing := absent(name):
            yield LintFinding(Level.WARNING, f"ComponentDependencies.{name}", missing.message, missing.hint)
