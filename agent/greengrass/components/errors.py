"""What can be wrong with a set of components.

::

    InvalidInputError
    └── ComponentError    a set of components cannot be run: a circle of dependencies, an unknown kind
"""

from __future__ import annotations

from agent.errors import InvalidInputError

__all__ = ["ComponentError"]


class ComponentError(InvalidInputError):
    """A set of components cannot be run as it is."""

    default_code = "component-refused"
