"""What an artifact's URI tells: its scheme, its file's name, and how it may be shown.

A URI can carry a password before its host or a signature in its query; only ``shown`` goes into messages
and logs.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.recipes.uris import uri_problem

__all__ = ["file_name", "not_valid", "scheme", "shown", "split"]

_MAX_NAME_BYTES = 200
"""A file system takes 255; ours adds to names while they are under way."""


def split(uri: str) -> SplitResult:
    """The parts of a URI that has a scheme.

    Raises:
        ArtifactError: EMPTY_ARTIFACT_URI, EMPTY_ARTIFACT_SCHEME or ARTIFACT_URI_NOT_VALID.
    """
    problem = uri_problem(uri)
    if problem is not None:
        named = f"the artifact's URI {shown(uri)} {problem.message}" if uri else problem.message
        raise ArtifactError(named, hint=problem.hint, code=problem.code)
    return urlsplit(uri)


def scheme(uri: str) -> str:
    """The scheme in lower case; raises as ``split``."""
    return split(uri).scheme


def file_name(uri: str) -> str:
    """The last segment of the path, fit to be a file's name; raises as ``split``."""
    name = unquote(split(uri).path.rpartition("/")[2])
    if name in {"", ".", ".."} or "/" in name or not name.isprintable() or len(name.encode()) > _MAX_NAME_BYTES:
        raise not_valid(uri, "its last segment is no name for a file")
    return name


def shown(uri: str) -> str:
    """The URI without user, password, query and fragment: for messages and logs."""
    head = re.split(r"[?#]", uri, maxsplit=1)[0]
    front, slashes, rest = head.partition("//")
    authority, slash, path = rest.partition("/")
    return f"{front}{slashes}{authority.rpartition('@')[2]}{slash}{path}"


def not_valid(uri: str, why: str) -> ArtifactError:
    """The error of a URI that cannot be used."""
    return ArtifactError(f"the artifact's URI {shown(uri)} is not valid", hint=why, code="ARTIFACT_URI_NOT_VALID")
