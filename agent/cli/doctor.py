"""``verge doctor``: what the agent needs, checked one by one."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import click

from agent.cli import loop
from agent.cli.output import echo, print_json, styled
from agent.doctor import topics
from agent.doctor.checks import examine
from agent.doctor.finding import Finding, FindingStatus

__all__ = ["command"]

_COLOURS = {FindingStatus.OK: "green", FindingStatus.WARN: "yellow", FindingStatus.FAIL: "red"}
_CHECK = 15
_INDENT = " " * (4 + 2 + _CHECK + 2)


@click.command("doctor")
@click.option("-c", "--config", type=click.Path(path_type=Path), metavar="FILE", help="Check this configuration too.")
@click.option("--topics", "of_topics", is_flag=True, help="Only ask the brokers of -c which topics the agent may use.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a check.")
def command(config: Path | None, of_topics: bool, as_json: bool) -> None:
    """Check this machine, what components would find on it, and with -c a configuration's brokers, files, models.

    Each line is OK, or says what to do.  The exit status is 1 when a check failed; a warning is none.

    \b
    Examples:
      verge doctor
      verge doctor -c configs/local.toml
      verge doctor -c configs/iot-core.toml --topics
    """  # noqa: D301 click wants the character itself
    if of_topics and config is None:
        raise click.UsageError("--topics needs -c FILE")
    examination = topics.examine(config) if of_topics and config else examine(config)
    findings = loop.run(_examined(examination, show=not as_json))
    failed = sum(finding.status is FindingStatus.FAIL for finding in findings)
    warned = sum(finding.status is FindingStatus.WARN for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        counts = f"{failed} failed, {warned} to look at, {len(findings) - failed - warned} well"
        echo(f"\n{counts}" + ("" if config else "; -c FILE checks brokers, files and models too"))
    if failed:
        raise click.exceptions.Exit(1)


async def _examined(examination: AsyncIterator[Finding], *, show: bool) -> list[Finding]:
    findings = []
    async for finding in examination:
        findings.append(finding)
        if show:
            _print(finding)
    return findings


def _print(finding: Finding) -> None:
    status = styled(f"{finding.status:4}", fg=_COLOURS[finding.status], bold=finding.status is not FindingStatus.OK)
    width = shutil.get_terminal_size().columns
    check = f"{finding.check:{_CHECK}}  "
    lines = textwrap.wrap(finding.detail, max(20, width - len(_INDENT))) or [""]
    # A check with a long name has the first line to itself.
    if len(check) > _CHECK + 2:
        lines = ["", *lines]
    echo(status, f"  {check}{lines[0]}".rstrip())
    for line in lines[1:]:
        echo(_INDENT + line)
    if finding.fix:
        wrapped = textwrap.wrap(
            f"→ {finding.fix}", max(20, width - len(_INDENT)), subsequent_indent="  ", break_on_hyphens=False
        )
        for line in wrapped:
            echo(_INDENT, styled(line, bold=True))
