"""What can be wrong with a set of components.

::

    InvalidInputError
    ├── ComponentError    a set of components cannot be run: a circle of dependencies, an unknown kind
    └── NotRunningError   a component that does not run cannot be paused or resumed
"""

from __future__ import annotations

from agent.errors import InvalidInputError

__all__ = ["ComponentError", "NotRunningError"]


class ComponentError(InvalidInputError):
    """A set of components cannot be run as it is."""

    default_code = "component-refused"


class NotRunningError(InvalidInputError):
    """A component does not run."""

    default_code = "component-not-running"
