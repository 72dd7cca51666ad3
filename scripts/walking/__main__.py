"""``scripts/walks``: how many of the project's files a reader walks through who follows one thing on its way.

Real processes are traced: a mosquitto, the agent as ``python -m agent run -c`` starts it, its worker, the Jobs service.
Only what is public is used, so that checkouts with other modules are measured by the same rule.  The walks:

``frame``   a picture on a topic to its result on a topic, in the agent and in the worker
``job``     an AWS IoT job to SUCCEEDED, in the agent alone: the files that deployments of four kinds all pass: a model
            in an archive and its stream, another setting of the stream, the end of both, and no change
``result``  a result through the outbox to its PUBACK: what a frame from a folder passes whose result is published
            through an outbox, without what one passes whose result is written to a file
``key``     a configuration key from the TOML text to the objects that use it: of seven keys, the one in the middle

A file of ``agent/`` counts for the first three where one of its functions runs between the arrival and the moment when
the agent is at rest, in each repetition; a first passage is not counted.  Code that runs because a module is imported
does not count, nor do bodies of modules and classes: an ``__init__.py`` that only re-exports is none.  A generated
``__init__`` of a dataclass counts for the file of the class.

A file counts for a key where one of its functions is given the value, returns it or has it in a local variable while
the agent starts, alone or within text, containers and values of named fields, and where such fields are defined.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.walking.walks import Walk, trace

CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Trace and print."""
    options = arguments()
    walks = trace(options.root, options.repeat)
    if options.json or options.files:
        print(json.dumps(with_files(walks) if options.files else counts(walks)))
    else:
        print(table(walks, options.against))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="scripts/walks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="the four counts as one JSON object")
    parser.add_argument("--files", action="store_true", help="one JSON object with the files too")
    parser.add_argument("--root", type=_checkout, default=CHECKOUT, help="the checkout that is traced (this one)")
    parser.add_argument("--against", type=_earlier, default={}, metavar="FILE", help="JSON of an earlier run")
    parser.add_argument("--repeat", type=int, default=2, help="passages of each walk (%(default)s)")
    return parser.parse_args()


def counts(walks: Mapping[str, Walk]) -> dict[str, int]:
    """Each walk's number of files."""
    return {name: len(walk.files) for name, walk in walks.items()}


def with_files(walks: Mapping[str, Walk]) -> dict[str, Any]:
    """Each walk's files, and those of the passages that they were taken from."""
    return {
        name: {"count": len(walk.files), "files": walk.files, "taken_from": dict(walk.taken_from)}
        for name, walk in walks.items()
    }


def table(walks: Mapping[str, Walk], against: Mapping[str, int]) -> str:
    """For people: each walk, its number, an earlier one beside it, and its files in the order of first passage."""
    lines = []
    for name, walk in walks.items():
        earlier = against.get(name)
        change = f"   before {earlier}, {100 * (len(walk.files) / earlier - 1):+.0f} %" if earlier else ""
        lines.append(f"{name:<7}{len(walk.files):>4}{change}")
        lines += [f"            {passage}: {len(files)}" for passage, files in walk.taken_from.items()]
        lines += [f"    {number:>4}  {file}" for number, file in enumerate(walk.files, 1)]
    return "\n".join(lines)


def _checkout(text: str) -> Path:
    root = Path(text).resolve()
    if not (root / "agent" / "__main__.py").exists():
        raise argparse.ArgumentTypeError(f"{root} is no checkout: it has no agent/__main__.py")
    return root


def _earlier(text: str) -> dict[str, int]:
    """The counts in what ``--json`` or ``--files`` printed."""
    content = json.loads(Path(text).read_text())
    return {name: walk["count"] if isinstance(walk, dict) else walk for name, walk in content.items()}


if __name__ == "__main__":
    main()
