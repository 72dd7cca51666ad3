"""What can be wrong with a set of components.

::

    Wrong
    └── ComponentRefused    a set of components cannot be run: a circle of dependencies, an unknown kind
"""

from __future__ import annotations

from agent.errors import Wrong

__all__ = ["ComponentRefused"]


class ComponentRefused(Wrong):
    """A set of components cannot be run as it is."""

    default_code = "component-refused"
