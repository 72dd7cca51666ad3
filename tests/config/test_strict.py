"""What a person wrote wrongly is refused with its place, what was expected, and a guess."""

from __future__ import annotations

import msgspec
import pytest

from agent.config.strict import build, convert, nearest
from agent.errors import ConfigError


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1
    names: tuple[str, ...] = ()


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    plain: Inner = msgspec.field(default_factory=Inner)
    table: dict[str, Inner] = {}
    maybe: Inner | None = None
    rows: list[Inner] = []
    deep: dict[str, dict[str, Inner]] = {}


@pytest.mark.parametrize(
    ("parsed", "message", "hint"),
    [
        ({"plian": {}}, "unknown key plian in f.toml", "did you mean plain?"),
        ({"zzz": {}}, "unknown key zzz in f.toml", "known here: plain, table, maybe, rows, deep"),
        ({"plain": {"prot": 1}}, "unknown key plain.prot in f.toml", "did you mean port?"),
        ({"table": {"a": {}, "b": {"prot": 1}}}, "unknown key table.b.prot in f.toml", "did you mean port?"),
        ({"maybe": {"prot": 1}}, "unknown key maybe.prot in f.toml", "did you mean port?"),
        ({"rows": [{}, {"prot": 1}]}, "unknown key rows[1].prot in f.toml", "did you mean port?"),
        ({"deep": {"a": {"b": {}, "c": {"prot": 1}}}}, "unknown key deep.a.c.prot in f.toml", "did you mean port?"),
        ({"plain": {"port": "x"}}, "plain.port in f.toml: expected `int`, got `str`", None),
        ({"table": {"a": {"port": 1}, "b": {"port": "x"}}}, "table.b.port in f.toml: expected `int`, got `str`", None),
        ({"table": {"a": {"names": ["x", 3]}}}, "table.a.names[1] in f.toml: expected `str`, got `int`", None),
        ([], "f.toml: expected `object`, got `array`", None),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_guess(parsed, message, hint) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(Outer, parsed, "f.toml")
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_what_is_right_becomes_a_value() -> None:
    assert build(Outer, b"[table.a]\nport = 7", "f.toml").table == {"a": Inner(7)}


@pytest.mark.parametrize("text", [b"port = ", b"\xff"])
def test_what_is_no_toml_is_refused_by_name(text) -> None:
    with pytest.raises(ConfigError, match=r"f\.toml is not TOML"):
        build(Outer, text, "f.toml")


def test_only_a_near_word_is_guessed() -> None:
    assert nearest("clasifier", ["classifier", "detector"]) == "did you mean classifier?"
    assert nearest("x", ["classifier", "detector"]) is None
