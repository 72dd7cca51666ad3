"""The command line as a place for commands: a module and a line in the table make one."""

from __future__ import annotations

import re

from click.testing import CliRunner

import agent.cli
from agent.cli import COMMANDS, verge

MODULE = '''
import click

from agent.cli.output import json_option, print_json
from agent.errors import UnreachableError


@click.command("greet")
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> None:
    """Greet somebody."""
    if name == "nobody":
        raise UnreachableError("nobody is there", hint="greet somebody")
    print_json({"greeting": name}) if as_json else click.echo(f"hello {name}")
'''


def test_a_module_and_a_line_in_the_table_make_a_command(tmp_path, monkeypatch):
    (tmp_path / "greet.py").write_text(MODULE)
    monkeypatch.setattr(agent.cli, "__path__", [*agent.cli.__path__, str(tmp_path)])
    monkeypatch.setitem(COMMANDS, "greet", "Greet somebody.")
    run = CliRunner()
    assert re.search(r"^  greet +Greet somebody\.$", run.invoke(verge, ["--help"]).output, re.MULTILINE)
    assert run.invoke(verge, ["greet", "you"]).output == "hello you\n"
    assert run.invoke(verge, ["greet", "you", "--json"]).output == '{\n  "greeting": "you"\n}\n'
    refused = run.invoke(verge, ["greet", "nobody"])
    assert (refused.exit_code, refused.stderr) == (3, "verge: nobody is there\n       greet somebody\n")
