"""What the agent publishes, as JSON Schema (2020-12), for those who read it."""

from __future__ import annotations

from importlib.resources import files

from agent.errors import ConfigError

__all__ = ["SCHEMAS", "schema"]

SCHEMAS = ("native", "aws", "failure", "stream-status", "component-status", "agent-status", "transport-status")


def schema(name: str) -> bytes:
    """The schema of that name, JSON text; raises ``ConfigError`` where there is none.

    >>> schema("native")[:1]
    b'{'
    """
    if name not in SCHEMAS:
        raise ConfigError(f"there is no schema {name!r}", hint=f"known: {', '.join(SCHEMAS)}", code="schema-unknown")
    return files(__package__).joinpath(f"{name}.json").read_bytes()
