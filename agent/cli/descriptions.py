"""What a model is, for people: its facts, what it was taken for and why, and the backends that run it.

rich is slow to import, so only what shows a table imports this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from agent.cli.inputs import as_options
from agent.cli.tables import cell, console, table
from agent.doctor.finding import size
from agent.inference.values import InputFact, ModelMetadata, TensorMetadata

if TYPE_CHECKING:
    from agent.cli.models import BackendTrial
    from agent.errors import VergeError

__all__ = ["show_model", "show_recognition", "show_samples", "show_trials"]

_EVIDENCE: Final = {
    "told": "the manifest or an option says so",
    "said": "the file or its labels say so",
    "named": "known by the names of its tensors",
    "fits": "guessed from the shapes of its tensors",
}
"""How sure it is: whatever it is, the first answer was not against it."""
_SOURCES: Final = {
    "manifest": "the manifest, or an option",
    "file": "the file's metadata",
    "family": "as its family is fed",
    "shape": "the network's own shape",
    "usual": "usual: nobody says it",
}


def show_model(model: ModelMetadata) -> None:
    """One line: which model answers, and what runs it; and what a person should know before believing it."""
    out = console()
    name = f"{model.name} {model.version}".rstrip()
    ran = f"{model.backend} on {model.accelerator}, loaded in {model.load_ms:.0f} ms"
    out.print(f"[bold]{cell(name)}[/]  [dim]{cell(ran)}[/]")
    for note in model.recognition.notes:
        out.print(f"[yellow]note: {cell(as_options(note))}[/]")
    out.print()


def show_recognition(model: ModelMetadata) -> None:
    """What it was taken for, how it is fed, and who says so."""
    out = console()
    made = _plain_table()
    for row in _recognised(model):
        made.add_row(*row)
    out.print(made)
    out.print()
    out.print(_fed(model.input))
    out.print()


def show_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    """A line a model."""
    made = table("sample", "model", "task", "size", right=("size",))
    for facts in samples:
        made.add_row(facts["sample"], f"{facts['name']} {facts['version']}", facts["task"], size(facts["bytes"]))
    console().print(made)
    console().print("\n[dim]More of one: verge models NAME.  Use one: verge infer --model NAME photo.jpg[/]")


def show_trials(facts: Mapping[str, Any], ran: ModelMetadata | None, trials: Sequence[BackendTrial]) -> None:
    """The model's facts, then a row a backend: whether it runs the model and how fast."""
    out = console()
    out.print(f"[bold]{cell(facts['name'])}[/] {cell(facts['version'])}\n")
    out.print(_about(facts, ran))
    out.print()
    if ran is not None and ran.input:
        out.print(_fed(ran.input))
        out.print()
    out.print(_backends(trials))


# -- what it is --------------------------------------------------------------------------------------------------------


def _plain_table() -> Table:
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    return made


def _about(facts: Mapping[str, Any], ran: ModelMetadata | None) -> Table:
    made = _plain_table()
    made.add_row("file", f"{cell(_near(facts['file']))} ({size(facts['bytes'])})")
    if not Path(facts["file"]).is_dir():
        for part in facts["parts"]:
            made.add_row("with", cell(_near(part)))
    source = f" from {cell(Path(facts['labels_file']).name)}" if facts["labels_file"] else ""
    if ran is None:
        made.add_row("task", facts["task"])
        return made
    made.add_row("digest", ran.digest)
    for row in _recognised(ran):
        made.add_row(*row)
    made.add_row("labels", f"{ran.labels}{source}" if ran.labels else "none")
    for word, tensors in (("input", ran.inputs), ("output", ran.outputs)):
        for info in tensors:
            made.add_row(word, cell(f"{info.name}  {_tensor(info)}".strip()))
    return made


def _recognised(model: ModelMetadata) -> Iterator[tuple[str, str]]:
    """What it was taken for and why, as rows."""
    found = model.recognition
    yield "task", cell(model.task)
    if model.decoder:
        yield "decoder", cell(model.decoder)
    evidence = _EVIDENCE.get(found.evidence, found.evidence)
    if found.why or evidence:
        yield "why", cell(": ".join(filter(None, (evidence, found.why))))
    for note in found.notes:
        yield "note", f"[yellow]{cell(note)}[/]"
    for stage in model.stages:
        yield "then", cell(f"{stage.name}  {stage.task} {stage.decoder}".strip())


def _fed(facts: Sequence[InputFact]) -> Table:
    """How a picture becomes the network's input: a row a fact, with who says it."""
    made = table("picture", "value", "who says it")
    for fact in facts:
        style, source = "yellow" if fact.source == "usual" else "none", _SOURCES.get(fact.source, fact.source)
        made.add_row(cell(fact.key), cell(_value(fact.value)), f"[{style}]{cell(source)}[/]")
    return made


def _value(value: Any) -> str:
    """A value of a manifest in a line.

    >>> _value({"columns": 3, "size": [0.5, 1.0], "with_whole": True})
    'columns 3, size 0.5, 1, with_whole true'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tensor(info: TensorMetadata) -> str:
    """A tensor's type, shape and quantisation in a line."""
    line = f"{info.dtype} [{', '.join('?' if side < 0 else str(side) for side in info.shape)}]"
    if info.quantization:
        line += f", scale {info.quantization.scale:.6g}, zero point {info.quantization.zero_point}"
    return line


def _near(path: str) -> str:
    """A path as seen from here, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


# -- what runs it ------------------------------------------------------------------------------------------------------


def _backends(trials: Sequence[BackendTrial]) -> Table:
    made = table("backend", "runs", "load ms", "infer ms", "", right=("load ms", "infer ms"))
    for trial in trials:
        model = trial.description
        if trial.error is None and model is not None:
            how = f"{cell(model.backend)} on {cell(model.accelerator)}"
            made.add_row(trial.backend, "[green]yes[/]", f"{model.load_ms:.0f}", f"{trial.infer_ms:.1f}", how)
        else:
            made.add_row(trial.backend, "[yellow]no[/]", "", "", _reason(trial.error))
    return made


def _reason(error: VergeError | None) -> str:
    if error is None:
        return ""
    message = cell(" ".join(error.message.split()))
    return message + (f"\n[dim]{cell(as_options(error.hint))}[/]" if error.hint else "")
