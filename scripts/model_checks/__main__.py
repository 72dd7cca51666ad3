"""``scripts/check-models``: real weights out of public packages, and what Verge makes of each."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.model_checks import judging
from scripts.model_checks.packages import Model, fetched, table
from scripts.model_checks.pictures import Pictures

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.json"
CODE = HERE / "code"
PATIENCE_S = 120
RIGHT = ("path", "manifest", "code")
CURABLE = ("refused", "tensors", "other numbers")
VERDICTS = (*RIGHT, "refused", "tensors", "wrong", "not fetched")


@dataclass(frozen=True)
class Verdict:
    """How one model file fared."""

    model: Model
    verdict: str
    path: str
    note: str = ""

    def row(self) -> dict[str, Any]:
        package = self.model.package
        return {
            "package": f"{package.name} {package.version}",
            "file": self.model.file,
            "head": self.model.head,
            "listed": self.model.listed,
            "verdict": self.verdict,
            "by_path": self.path,
            "note": self.note,
        }


@dataclass(frozen=True)
class Answer:
    """What ``verge infer`` said: predictions for each picture, or why not."""

    frames: tuple[list[dict[str, Any]], ...] = ()
    task: str = ""
    refusal: str = ""
    note: str = ""


def main() -> int:
    options = _options()
    models = [each for each in table() if not options.only or options.only in each.key]
    with tempfile.TemporaryDirectory(prefix="verge-models-") as folder:
        cellar = options.keep or Path(folder)
        cellar.mkdir(parents=True, exist_ok=True)
        pictures = Pictures(cellar / ".pictures", cellar)
        if options.make:
            return _make(models, cellar, pictures)
        verdicts = [_told(_checked(each, cellar, pictures), quiet=options.json) for each in models]
    summary = _summary(verdicts)
    if options.json:
        print(json.dumps({"models": [each.row() for each in verdicts], "summary": summary}, indent=2))
    else:
        _print(summary)
    return 1 if summary["wrong"] or summary["not_fetched"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/check-models", description=__doc__)
    parser.add_argument("--json", action="store_true", help="everything as JSON, nothing while it runs")
    parser.add_argument("--only", metavar="NAME", default="", help="the models with this in their package or file")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where packages are kept, and looked for first")
    parser.add_argument("--make", action="store_true", help="run the reference loops and write expected.json again")
    return parser.parse_args()


# The references.


def _make(models: list[Model], cellar: Path, pictures: Pictures) -> int:
    """Write what the reference loops find of the models with one; the rest of the table stays."""
    keys = {each.key for each in table()}
    known = {key: value for key, value in _expected().items() if key in keys}
    for model in models:
        if not model.loop:
            continue
        path = fetched(model.package, cellar) / model.file
        loop = reference(model.loop)
        known[model.key] = {name: loop(path, pictures.pixels(name), **model.arguments) for name in model.pictures}
        print(f"{model.key}: {', '.join(f'{name} {len(each)}' for name, each in known[model.key].items())}")
    rows = (f"  {json.dumps(key)}: {json.dumps(known[key], ensure_ascii=False)}" for key in sorted(known))
    EXPECTED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    return 0


def reference(name: str) -> Callable[..., list[dict[str, Any]]]:
    """The loop that ``models.toml`` names as ``module.function``."""
    module, function = name.split(".")
    found: Callable[..., list[dict[str, Any]]] = getattr(
        importlib.import_module(f"scripts.model_checks.references.{module}"), function
    )
    return found


def _expected() -> dict[str, Any]:
    return dict(json.loads(EXPECTED.read_text(encoding="utf-8"))) if EXPECTED.exists() else {}


# The checks.


def _checked(model: Model, cellar: Path, pictures: Pictures) -> Verdict:
    try:
        path = fetched(model.package, cellar) / model.file
        shown = [pictures.path(each) for each in model.pictures]
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Verdict(model, "not fetched", "", str(error))
    expected = None if model.why else [_expected()[model.key][each] for each in model.pictures]
    bare = Verdict(model, "tensors", "") if model.variant else _judged(model, infer(path, shown), expected)
    if bare.verdict == "path":
        return bare
    code = CODE / model.package.folder / path.stem
    for way, manifest in (("manifest", model.manifest), ("code", _read(code / "manifest.toml"))):
        if not manifest:
            continue
        with tempfile.TemporaryDirectory(prefix="verge-model-") as folder:
            if way == "code":
                shutil.copytree(code, folder, dirs_exist_ok=True)
            tried = _judged(model, infer(_dressed(path, manifest, Path(folder)), shown), expected)
        if tried.verdict == "path" and bare.verdict in CURABLE:
            return replace(bare, verdict=way)
        bare = replace(bare, note=f"{bare.note}; with the {way}: {tried.path}".removeprefix("; "))
    return replace(bare, verdict="wrong") if bare.verdict == "other numbers" else bare


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _dressed(path: Path, manifest: str, folder: Path) -> Path:
    """A folder of the model, what lies beside it, and a manifest."""
    for each in path.parent.iterdir():
        if each.is_file():
            (folder / each.name).symlink_to(each)
    head = f'name = "checked"\nversion = "1.0.0"\nfile = "{path.name}"\n'
    (folder / "manifest.toml").write_text(head + manifest, encoding="utf-8")
    return folder


def infer(path: Path, shown: list[Path]) -> Answer:
    """What a person sees of ``verge infer --json``."""
    try:
        done = _verge("infer", "--model", str(path), "--json", *map(str, shown))
    except subprocess.TimeoutExpired:
        return Answer(refusal=f"no answer in {PATIENCE_S} s")
    try:
        rows = json.loads(done.stdout)
    except ValueError:
        return Answer(refusal=" ".join(done.stderr.split()).removeprefix("verge: ") or f"status {done.returncode}")
    broken = next((each["error"] for each in rows if "error" in each), None)
    if broken:
        return Answer(refusal=broken if isinstance(broken, str) else json.dumps(broken))
    frames, task = tuple(each["predictions"] for each in rows), rows[0].get("task", "")
    note = _note(path, shown) if task == "tensors" else ""
    return Answer(frames=frames, task=task, note=note)


def _note(path: Path, shown: list[Path]) -> str:
    """The sentence with which a person is told why there are only tensors."""
    lines = _verge("infer", "--model", str(path), str(shown[0])).stdout.splitlines()
    return next((line.removeprefix("note: ") for line in lines if line.startswith("note: ")), "")


def _verge(*words: str) -> subprocess.CompletedProcess[str]:
    program = os.environ.get("VERGE") or str(Path(sys.executable).with_name("verge"))
    wide = {**os.environ, "COLUMNS": "1000"}
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=wide)


def _judged(model: Model, answer: Answer, expected: list[Any] | None) -> Verdict:
    if answer.refusal:
        return Verdict(model, "refused", f"refused: {answer.refusal}")
    if all(judging.kind(each) == "tensor" for frame in answer.frames for each in frame) and any(answer.frames):
        return Verdict(model, "tensors", f"tensors: {answer.note or 'without a word why'}")
    said = "; ".join(_shown(each) for each in answer.frames)
    if expected is None:
        return Verdict(model, "wrong" if any(answer.frames) else "refused", said, model.why)
    for name, wanted, found in zip(model.pictures, expected, answer.frames, strict=True):
        told = judging.differs(wanted, found, model.within)
        if told:
            sort = "other numbers" if judging.read_otherwise(wanted, found) else "wrong"
            return Verdict(model, sort, f"{name}: {told}", "published what the reference does not find")
    return Verdict(model, "path", said)


def _shown(frame: list[dict[str, Any]]) -> str:
    if not frame:
        return "nothing"
    best = frame[0]
    words = [str(best.get("text", best.get("label", judging.kind(best))))]
    if "score" in best:
        words.append(f"{best['score']:.3f}")
    if len(frame) > 1:
        words.append(f"and {len(frame) - 1} more")
    return " ".join(words)


# What is printed.


def _told(verdict: Verdict, *, quiet: bool) -> Verdict:
    if not quiet:
        print(f"{verdict.verdict:<12} {verdict.model.key}  ({verdict.model.head})")
        for line in (verdict.path, verdict.note):
            if line and (verdict.verdict != "path" or line is verdict.path):
                print(f"             {line[:200]}")
    return verdict


def _summary(verdicts: list[Verdict]) -> dict[str, Any]:
    counts = {each.replace(" ", "_"): sum(one.verdict == each for one in verdicts) for each in VERDICTS}
    listed = [each for each in verdicts if each.model.listed]
    by_path = sum(each.verdict == "path" for each in listed)
    share = round(by_path / len(listed), 3) if listed else None
    return {"tried": len(verdicts), **counts, "listed": len(listed), "listed_by_path": by_path, "listed_share": share}


def _print(summary: dict[str, Any]) -> None:
    print()
    print(
        f"{summary['tried']} model files: right by path {summary['path']}, with a manifest {summary['manifest']}, ",
        end="",
    )
    print(f"with code {summary['code']}; refused {summary['refused']}, tensors {summary['tensors']}, ", end="")
    print(f"wrong {summary['wrong']}, not fetched {summary['not_fetched']}")
    print(f"heads that Verge promises: {summary['listed_by_path']} of {summary['listed']} right by path")


if __name__ == "__main__":
    sys.exit(main())
