"""A recipe that is still a template: what stands in it for a value that a build fills in.

The Greengrass Development Kit (``gdk component build``) replaces ``{COMPONENT_NAME}``, ``{COMPONENT_VERSION}``,
``{COMPONENT_AUTHOR}`` and the ``BUCKET_NAME`` of artifacts, with and without braces, and takes ``NEXT_PATCH`` for a
version.  Other builds know ``{{…}}``, ``${…}``, ``<%…%>`` and ``@NAME@``,
and a person ``<name>``.
"""

from __future__ import annotations

import re

__all__ = ["HINT", "placeholder"]

_PLACEHOLDER = re.compile(
    r"""
      \{\{[^{}]*\}\} | \$\{[^{}]*\} | \$\([^()]*\) | <%.*?%> | <[A-Za-z][^<>/]*> | @[A-Z][A-Z0-9_]*@
    | \{\s*[A-Z][A-Z0-9_]*\s*\}
    | (?<![A-Za-z0-9])(?:COMPONENT_(?:NAME|VERSION|AUTHOR)|BUCKET_NAME|NEXT_(?:PATCH|MINOR|MAJOR))(?![A-Za-z0-9])
    """,
    re.VERBOSE,
)

HINT = "build it first: gdk component build writes the recipe to be deployed to greengrass-build/recipes; or fill it in"


def placeholder(text: str) -> str | None:
    """What in a text waits for a build; None where nothing does.

    >>> placeholder("s3://BUCKET_NAME/com.a/{COMPONENT_VERSION}/a.zip"), placeholder("1.0.0")
    ('BUCKET_NAME', None)
    >>> placeholder("s3://<your-bucket>/a.zip")
    '<your-bucket>'
    """
    found = _PLACEHOLDER.search(text)
    return found[0] if found else None
