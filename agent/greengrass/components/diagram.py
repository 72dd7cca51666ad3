"""The lifecycle table drawn: Mermaid text for the documentation."""

from __future__ import annotations

from collections import defaultdict

from agent.greengrass.components.lifecycle import edges

__all__ = ["mermaid"]


def mermaid() -> str:
    """A state diagram of every change that the table and the goals allow."""
    causes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, to, cause in sorted(edges()):
        causes[state, to].append(cause)
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    lines += [f"    {state} --> {to}: {', '.join(told)}" for (state, to), told in causes.items()]
    return "\n".join(lines) + "\n"
