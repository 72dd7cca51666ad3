"""The agent's own parts, and which bounds on their versions it meets.

There is one version of each part, that of the nucleus whose behaviour the agent follows.  Bounds in recipes and
documents were written when another nucleus was the newest:

======================================  ====================================================================
who bounds a part                       is content where its bound admits
======================================  ====================================================================
a component of the catalog              any 2.x: what runs behind it is the agent itself
any other recipe                        some 2.x up to ours: an upper bound is a habit that AWS's recipes
                                        began, a lower one asks for what came later
a document                              ours; a pin of any 2.x stands for it (``deployments.repository``)
======================================  ====================================================================
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["AS_NUCLEUS", "CLI", "NAMES", "NUCLEUS", "TOKEN_EXCHANGE", "met"]

NUCLEUS: Final = "aws.greengrass.Nucleus"
TOKEN_EXCHANGE: Final = "aws.greengrass.TokenExchangeService"  # noqa: S105 a name
CLI: Final = "aws.greengrass.Cli"
NAMES: Final = frozenset((NUCLEUS, TOKEN_EXCHANGE, CLI))
AS_NUCLEUS: Final = Version(2, 12, 6)
"""The nucleus whose behaviour the agent follows."""

_ANY: Final = Requirement.parse("*")
_OF_2: Final = tuple(Version(2, minor, patch) for minor in range(61) for patch in range(31))
_UP_TO_OURS: Final = tuple(version for version in _OF_2 if version <= AS_NUCLEUS)


def met(name: str, requirement: Requirement, depender: str) -> Requirement:
    """What a dependency asks for: anything where it is a part whose bound is met, else what it says.

    >>> str(met(NUCLEUS, Requirement.parse(">=2.0.0 <2.8.0"), "com.example.Inspect"))
    '*'
    >>> str(met(NUCLEUS, Requirement.parse(">=2.14.0"), "com.example.Inspect"))
    '>=2.14.0'
    """
    if name not in NAMES:
        return requirement
    versions = _OF_2 if depender in ENTRIES else _UP_TO_OURS
    return _ANY if _admits(requirement, versions) else requirement


@lru_cache(maxsize=1024)
def _admits(requirement: Requirement, versions: tuple[Version, ...]) -> bool:
    return any(requirement.allows(version) for version in versions)
