"""The forms that files of labels have: text in, the number and name of each class out.

``FORMS`` lists them in the order in which a text is held against them; the first that knows it is taken, and plain
lines are last.  A form gives None for a text that is none of its own, and raises ``ValueError`` for one that is, and
is broken.  Everything is parsed and nothing evaluated.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import warnings
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Pattern, Sequence, Tuple, TypeVar

from agent.inference.runtime import plainyaml, prototext
from agent.inference.runtime.base import Labels

__all__ = ["FORMS", "Form", "listed", "of_tree"]

Form = Callable[[str, str], Optional[Labels]]
"""A text and the name of its file in; labels, or None where the text has another form."""
Value = TypeVar("Value")

MAX_ID = 999_999
_DEEPEST = 5
"""Tables inside tables in which labels are looked for."""
_MOST_PYTHON = 1 << 20
"""Characters: Python's own parser takes a hundred times as many bytes."""

CONTAINERS = (
    "names", "class_names", "classes", "labels", "id2label", "label_names", "label_list", "class_list",
    "thing_classes", "categories", "character_dict", "item", "items", "entries", "label_map", "labelmap",
    "index_to_name", "idx_to_class", "idx_to_label", "class_to_idx", "label2id",
)  # fmt: skip
"""Keys under which files that say more than their labels keep them, best first."""
NUMBERS = (
    "id", "index", "idx", "class_id", "classid", "label_id", "labelid", "category_id", "class_index", "class_idx",
    "label_index", "number", "class", "label", "",
)  # fmt: skip
NAMES = (
    "display_name", "displayname", "name", "class_name", "classname", "label_name", "labelname", "signname", "label",
    "title", "class", "text", "category", "description",
)  # fmt: skip
"""What the number and the name of a class are called where entries have keys and columns have heads, best first."""

# No two repetitions in a row that take the same characters: a run of blanks would cost the square of its length.
_LITERAL = re.compile(r"""[\[{]\s*(?:[uU]?["']|[0-9]|[\[\]{}(])""")
_PROTOTEXT = re.compile(r"^[ \t]*(?:\w+\s*(?::\s*)?\{\s*)?(?:item|items|entries)\s*(?::\s*)?[{<]", re.MULTILINE)
_YAML = re.compile(rf"^(?:{'|'.join(CONTAINERS)}|postprocess)\s*:\s*(?:$|[\[{{#!&*])", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,6}")
_IN_FRONT = re.compile(r"([0-9]{1,6})(?:\s*[:,;|=)]\s*|\t\s*|\.\s+|\s+-\s+)(.*)")
_IN_FRONT_BLANK = re.compile(r"([0-9]{1,6})\s+(\S.*)")
_AT_THE_END = re.compile(r"(.*\S)(?:\s*[:,;|=]\s*|(?=[^\S\t]*\t)\s+)([0-9]{1,6})")
_AT_THE_END_BLANK = re.compile(r"(.*\S)\s+([0-9]{1,6})")
_QUOTED = re.compile(r"""(["'])(.*)\1,?""")
_REMARK = re.compile(r"#|//")
_WORDNET = re.compile(r"n[0-9]{8}[\s,;:|]+(?=\S)")
_SETTING = re.compile(r"[\w.\-]+\s*=\s*\S.*|\[[\w.\-]+\]")
_CODE = re.compile(r"[\[\]{}()]+[,;]?|.*[=:]\s*[\[{(]|<[!?\w].*")
_POINTER = "version https://git-lfs"
_SEPARATORS = "\t,;|"


# -- forms -------------------------------------------------------------------------------------------------------------


def characters(text: str, source: str) -> Optional[Labels]:
    """Lines of one character each, for networks that read text: a blank, a digit and a bracket are names too."""
    del source
    lines = text.split("\n")
    return listed(lines) if text.strip() and all(len(line) <= 1 for line in lines) else None


def literal(text: str, source: str) -> Optional[Labels]:
    """JSON, or a Python list or dict as AWS's samples ship them."""
    del source
    if not _LITERAL.match(text.lstrip()):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python(text.strip())
    return of_tree(value)


def protobuf(text: str, source: str) -> Optional[Labels]:
    """TensorFlow's ``item { id: 1 name: "cat" }``, Caffe's ``item { label: 1 display_name: "cat" }``."""
    del source
    if not _PROTOTEXT.search(text):
        return None
    return of_tree(prototext.parse(text, CONTAINERS))


def yaml(text: str, source: str) -> Optional[Labels]:
    """A list or a table, or ``names:`` and the like above one; whatever is in a file that is called ``.yaml``."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    is_list = bool(lines) and all(line.startswith("- ") for line in lines)
    if is_list or source.lower().endswith((".yaml", ".yml")) or text.startswith("---\n") or _YAML.search(text):
        return of_tree(plainyaml.parse(text))
    return None


def table(text: str, source: str) -> Optional[Labels]:
    """Columns with heads: ``id,name``, ``label;index``, ImageNet's."""
    del source
    lines = [line for line in text.split("\n") if line.strip()]
    for separator in _SEPARATORS:
        heads = [_folded(head) for cells in _cells(lines[:1], separator) for head in cells]
        known = [head in NAMES or head in NUMBERS for head in heads]
        if len(heads) > 1 and any(head in NAMES for head in heads):
            rows = _cells(lines[1:], separator)
            short = next((at for at, row in enumerate(rows, 2) if len(row) < len(heads)), 0)
            if rows and not short:
                return _columns(heads, rows, separator)
            if all(known):
                raise ValueError(
                    f"line {short} has not all of the columns {', '.join(heads)}" if rows else "has no rows"
                )
    return None


def numbered(text: str, source: str) -> Optional[Labels]:
    """``3 cat``, ``3: cat``, ``3,cat``, ``n01440764 tench``; ``cat,3``, and ``cat 3`` where no number is missing."""
    del source
    lines = [(at, line.strip()) for at, line in enumerate(text.split("\n"), 1)]
    lines = [(at, line) for at, line in lines if line and not _REMARK.match(line)]
    if not lines:
        return None
    if all(_WORDNET.match(line) for _, line in lines):
        lines = [(at, _WORDNET.sub("", line, count=1)) for at, line in lines]
        return _numbered(lines) or listed([line for _, line in lines])
    return _numbered(lines)


def one_line(text: str, source: str) -> Optional[Labels]:
    """``cat;dog;bird``, all on one line."""
    del source
    line = text.strip()
    separator = next((each for each in ";\t," if each in line), "")
    return listed(_cells([line], separator)[0]) if separator and "\n" not in line else None


def plain(text: str, source: str) -> Optional[Labels]:
    """One name per line; a blank line inside is a class without name."""
    del source
    lines = [line.strip(" \t") for line in text.split("\n")]
    filled = [line for line in lines if line]
    if text.startswith(_POINTER):
        raise ValueError("is what Git LFS keeps in place of the file; fetch that: git lfs pull")
    if filled and all(_SETTING.fullmatch(line) for line in filled):
        raise ValueError("holds settings; where one of them names the file with the labels, give that one")
    if filled and (_CODE.fullmatch(filled[0]) or _CODE.fullmatch(filled[-1])):
        raise ValueError("is code or markup of a form that is not read")
    return listed(lines)


FORMS: Sequence[Form] = (characters, literal, protobuf, yaml, table, numbered, one_line, plain)


def listed(names: Sequence[Optional[str]]) -> Labels:
    """Names in the order of the classes; blanks among them are classes without name, blanks at the end are none."""
    named = {number: _trimmed(name) for number, name in enumerate(names) if name}
    named = {number: name for number, name in named.items() if name}
    return Labels(named, max(named, default=-1) + 1)


def of_tree(value: Any) -> Labels:
    """The labels somewhere in parsed lists and tables: themselves one, or below one of ``CONTAINERS``.

    Raises ``ValueError`` where there are none.
    """
    found, beside = _container(value)
    if isinstance(found, dict):
        labels = _by_number([(*_pair(key, entry), {key: entry}) for key, entry in found.items()])
    elif isinstance(found, (list, tuple)):
        labels = _in_order(found)
    else:
        raise ValueError(f"holds a {type(found).__name__}")  # noqa: TRY004 - what a file holds is a value
    return _of_count(labels, _number(beside.get("nc")))


# -- numbers in front of names and behind them -------------------------------------------------------------------------


def _numbered(lines: Sequence[Tuple[int, str]]) -> Optional[Labels]:
    """What numbered lines say; None where the numbers are no numbering."""
    for pattern in (_IN_FRONT, _AT_THE_END):
        pairs = _pairs(lines, pattern)
        if pairs and (pattern is _IN_FRONT or _is_plausible(pairs)):
            return _by_number(pairs)
    pairs = _pairs(lines, _IN_FRONT, _IN_FRONT_BLANK)
    if pairs and not _are_alike(pairs):
        if not _is_plausible(pairs):
            raise ValueError('begins its lines with numbers that may be a part of the names (if not, write "7: cat")')
        return _by_number(pairs)
    pairs = _pairs(lines, _AT_THE_END_BLANK)
    return _by_number(pairs) if pairs and _is_complete(pairs) and not _are_alike(pairs) else None


def _pairs(lines: Sequence[Tuple[int, str]], *patterns: Pattern[str]) -> List[Tuple[int, str, str]]:
    """(number, name, where it stands) of each line; nothing where a line has none of the patterns."""
    pairs: List[Tuple[int, str, str]] = []
    for at, line in lines:
        match = next(filter(None, (pattern.fullmatch(line) for pattern in patterns)), None)
        if match is None:
            return []
        number, name = match.groups() if patterns[0] is _IN_FRONT else match.groups()[::-1]
        quoted = _QUOTED.fullmatch(name)
        pairs.append((int(number), quoted[2] if quoted else name, f"line {at}"))
    return pairs


def _is_plausible(pairs: Sequence[Tuple[int, str, str]]) -> bool:
    """Whether the numbers count something: there are few gaps."""
    return max(number for number, _, _ in pairs) <= 2 * len(pairs)


def _is_complete(pairs: Sequence[Tuple[int, str, str]]) -> bool:
    """Whether each number from 0 or 1 on is there, once."""
    numbers = sorted(number for number, _, _ in pairs)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] <= 1


def _are_alike(pairs: Sequence[Tuple[int, str, str]]) -> bool:
    """Whether names hardly differ but for their numbers, which are a part of them then: 1 euro, 2 euro."""
    return 1 < len(pairs) >= 2 * len({name for _, name, _ in pairs})


# -- lists and tables --------------------------------------------------------------------------------------------------


def _container(value: Any) -> Tuple[Any, Mapping[Any, Any]]:
    """The list or table of labels that is nearest to the top, and the table that it stands in."""
    level: List[Any] = [value]
    for _ in range(_DEEPEST):
        tables = [each for each in level if isinstance(each, dict)]
        for held in tables:
            keys = {_folded(key): key for key in reversed(list(held)) if isinstance(key, str)}
            for name in CONTAINERS:
                below = held.get(keys.get(name))
                if below and isinstance(below, (list, tuple)):
                    return below, held
                if below and isinstance(below, dict):
                    inner, beside = _container(below)
                    return (inner, beside) if beside else (below, held)
        level = [below for held in tables for below in held.values()]
    return value, {}


def _in_order(entries: Sequence[Any]) -> Labels:
    """Names in the order of the classes, or tables that have a name and perhaps a number each."""
    if entries and all(isinstance(entry, dict) for entry in entries):
        numbers = [_found(entry, NUMBERS, _number) for entry in entries]
        if any(number is not None for number in numbers):
            # A text protobuf leaves out what is 0.
            return _by_number([(number or 0, _name(entry), entry) for number, entry in zip(numbers, entries)])
    for entry in entries:
        if entry is not None and _name(entry) is None:
            raise ValueError(f"entry {_shown(entry)} is no number with one name")
    return replace(listed([_name(entry) for entry in entries]), count=len(entries))


def _pair(key: Any, entry: Any) -> Tuple[Optional[int], Optional[str]]:
    """A number and its name, whichever of the two is the key; an entry of null is a class without name."""
    number = _number(key)
    if number is not None:
        return number, "" if entry is None else _name(entry)
    return _found(entry, NUMBERS, _number) if isinstance(entry, dict) else _number(entry), key


def _by_number(pairs: Sequence[Tuple[Optional[int], Optional[str], Any]]) -> Labels:
    """The labels of (number, name, what it is called in an error), in any order; each number is there once."""
    names: Dict[int, str] = {}
    for number, name, where in pairs:
        if number is None or not isinstance(name, str):
            raise ValueError(f"entry {_shown(where)} is no number with one name")
        if number in names:
            place = where if isinstance(where, str) else f"entry {_shown(where)}"
            raise ValueError(f"{place}: class {number} has a name already")
        names[number] = _trimmed(name)
    if names and all(_WORDNET.match(name) for name in names.values()):
        names = {number: _WORDNET.sub("", name, count=1) for number, name in names.items()}
    count = len(names) if max(names, default=-1) + 1 == len(names) else None
    return Labels({number: name for number, name in names.items() if name}, count)


def _of_count(labels: Labels, classes: Optional[int]) -> Labels:
    """The labels of a file that says how many classes there are."""
    if classes is None:
        return labels
    count = max(labels.names, default=-1) + 1 if labels.count is None else labels.count
    if count > classes or labels.count not in (None, classes):
        raise ValueError(f"says nc = {classes} and names {count} classes")
    return replace(labels, count=classes)


def _found(entry: Mapping[Any, Any], keys: Sequence[str], read: Callable[[Any], Optional[Value]]) -> Optional[Value]:
    """What the first of the keys says that says anything."""
    folded = {_folded(key): value for key, value in entry.items() if isinstance(key, str)}
    said = (read(folded.get(key)) for key in keys)
    return next((value for value in said if value is not None), None)


def _name(entry: Any) -> Optional[str]:
    """A class's name: text, that of a table, or the second half of Keras' ``["n01440764", "tench"]``."""
    if isinstance(entry, dict):
        return _found(entry, NAMES, lambda value: value if isinstance(value, str) else None)
    if isinstance(entry, (list, tuple)) and len(entry) > 1 and all(isinstance(each, str) for each in entry):
        return entry[1] if _WORDNET.match(f"{entry[0]} ") or _WORDNET.match(f"{entry[0]} -") else None
    return entry if isinstance(entry, str) else None


def _number(value: object) -> Optional[int]:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID:
        return value
    return None


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], separator: str) -> Optional[Labels]:
    """The rows of a table; what is too many in a row belongs to its last column."""
    last = len(heads) - 1
    rows = [[*row[:last], separator.join(row[last:])] for row in rows]

    def column(names: Sequence[str], taken: Optional[int], *, of_numbers: bool) -> Optional[int]:
        for name in names:
            for place, head in enumerate(heads):
                if (
                    head == name
                    and place != taken
                    and (not of_numbers or all(_number(row[place]) is not None for row in rows))
                ):
                    return place
        return None

    number = column(NUMBERS, None, of_numbers=True)
    name = column(NAMES, number, of_numbers=False)
    if name is None:
        return None
    if number is None:
        return listed([row[name] for row in rows])
    return _by_number([(_number(row[number]), row[name], f"row {at}") for at, row in enumerate(rows, 1)])


# -- words -------------------------------------------------------------------------------------------------------------


def _python(text: str) -> Any:
    if len(text) > _MOST_PYTHON:
        raise ValueError("is neither JSON nor short enough to be a Python list or dict")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash in a name is no concern of the log
            return ast.literal_eval(text)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno or 1}: {error.msg}") from error
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"is neither JSON nor a plain Python list or dict ({type(error).__name__})") from error


def _cells(lines: Sequence[str], separator: str) -> List[List[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"is no table: {error}") from error


def _folded(key: str) -> str:
    return re.sub(r"[\s\-]+", "_", key.strip().lower())


def _trimmed(name: str) -> str:
    """A name without the blanks round it; one that is a blank is a character."""
    return name.strip() or (name if len(name) == 1 else "")


def _shown(entry: object) -> str:
    text = repr(entry)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a line
