"""What the URI of an artifact has to be, wherever it leads.

A recipe is read whatever its URIs are: only those of the manifest that a device chooses are judged there.  ``lint``
judges all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.greengrass.recipes.templates import HINT, placeholder

__all__ = ["UriProblem", "uri_problem"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=.)")
_UNFIT = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]|%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class UriProblem:
    """What is wrong with a URI: Greengrass's code, what is the matter, and what to write."""

    code: str
    message: str
    hint: str


def uri_problem(uri: str) -> UriProblem | None:
    """What keeps a URI from naming anything; None for one that may be asked for."""
    if not uri:
        return UriProblem("EMPTY_ARTIFACT_URI", "the artifact has no URI", "fill in Artifacts[].Uri")
    if waits := placeholder(uri):
        message = f"waits for what a build puts in place of {waits}: the recipe is a template"
        return UriProblem("ARTIFACT_URI_NOT_VALID", message, HINT)
    if _UNFIT.search(uri):
        hint = "it holds a blank, a quote, a brace, a backslash or a control character; write them as %20, %5C, …"
        return UriProblem("ARTIFACT_URI_NOT_VALID", "is not valid", hint)
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        hint = "its host or port cannot be read: square brackets are for IPv6 addresses, what follows : is a number"
        return UriProblem("ARTIFACT_URI_NOT_VALID", "is not valid", hint)
    if not _SCHEME.match(uri):
        return UriProblem("EMPTY_ARTIFACT_SCHEME", "has no scheme", "write s3://…, https://… or file:///…")
    return None
