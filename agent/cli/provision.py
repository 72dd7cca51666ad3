"""``verge provision``: an identity at AWS IoT Core, from files or by a claim certificate, and its renewal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agent.aws.provision.enroll import Claim, Enrolled, Enrollment, by_claim, from_files
from agent.aws.provision.home import Home
from agent.aws.provision.prove import prove
from agent.aws.provision.rotate import OPERATION, RotateOptions, rotate
from agent.cli import loop
from agent.cli.output import echo
from agent.config.load import Config, load
from agent.config.transports import IotCoreOptions
from agent.errors import ConfigError
from agent.mqtt.factory import create

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_CONNECT_S = 30.0
_CONFIG = click.option("-c", "--config", required=True, type=_PATH, metavar="FILE", help="The agent's TOML file.")
_PARAMETERS = click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="For the template; more than once."
)


def _new(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every way to a new identity."""
    for option in reversed(
        (
            click.option("-c", "--config", required=True, type=_PATH, metavar="FILE", help="The TOML file to write."),
            click.option("--endpoint", required=True, metavar="HOST", help="The account's iot:Data-ATS endpoint."),
            click.option("--port", type=click.IntRange(1, 65_535), help="443 where 8883 is closed."),
            click.option("--ca", type=_PATH, metavar="FILE", help="Whom to trust, as PEM; else the system's."),
            click.option("--identity", type=_PATH, metavar="DIR", help="Where it goes; else identity beside FILE."),
            click.option("--force", is_flag=True, help="Replace a configuration that is there."),
        )
    ):
        function = option(function)
    return function


@click.group("provision")
def command() -> None:
    """Give this device its identity at AWS IoT Core, prove it, and write the configuration.

    What is interrupted leaves nothing half-written and can be run again.

    \b
    Examples:
      verge provision claim -c verge.toml --endpoint HOST --template verge \\
          --claim-cert claim.pem --claim-key claim.key --parameter SerialNumber=17
      verge provision files -c verge.toml --endpoint HOST --thing edge-1 --cert edge-1.pem --key edge-1.key
    """  # noqa: D301 click reads the backspace


@command.command("claim")
@_new
@click.option("--claim-cert", required=True, type=_PATH, metavar="FILE", help="The certificate that devices share.")
@click.option("--claim-key", required=True, type=_PATH, metavar="FILE", help="Its key.")
@click.option("--template", required=True, metavar="NAME", help="The provisioning template.")
@_PARAMETERS
@click.option("--their-key", is_flag=True, help="Let IoT Core make the key; else it is made here and never leaves.")
def claim(
    claim_cert: Path, claim_key: Path, template: str, parameters: tuple[str, ...], their_key: bool, **new: Any
) -> None:
    """Get a certificate and a thing by fleet provisioning.

    \b
    Example:
      verge provision claim -c verge.toml --endpoint HOST --template verge \\
          --claim-cert claim.pem --claim-key claim.key --parameter SerialNumber=17
    """  # noqa: D301 click reads the backspace
    claimed = Claim(claim_cert, claim_key, template, _pairs(parameters), their_key)
    _show(loop.run(by_claim(_enrollment(**new), claimed)))


@command.command("files")
@_new
@click.option("--thing", required=True, help="The thing that the certificate is attached to.")
@click.option("--cert", required=True, type=_PATH, metavar="FILE", help="Its certificate, as PEM.")
@click.option("--key", required=True, type=_PATH, metavar="FILE", help="The key of that, as PEM without a password.")
def files(thing: str, cert: Path, key: Path, **new: Any) -> None:
    """Take over a certificate and its key, as the console of IoT Core gives them.

    \b
    Example:
      verge provision files -c verge.toml --endpoint HOST --thing edge-1 --cert edge-1.pem --key edge-1.key
    """  # noqa: D301 click reads the backspace
    _show(loop.run(from_files(_enrollment(**new), thing, cert, key)))


@command.command("rotate")
@_CONFIG
@click.option("--template", required=True, metavar="NAME", help="The provisioning template.")
@_PARAMETERS
def rotate_command(config: Path, template: str, parameters: tuple[str, ...]) -> None:
    """Get a new certificate for the same thing, as a job would.

    It connects as the thing, so stop the agent first: both would take the connection from each other.

    \b
    Example:
      verge provision rotate -c verge.toml --template verge-rotation
    """  # noqa: D301 click reads the backspace
    options = RotateOptions(operation=OPERATION, template=template, parameters=_pairs(parameters))
    report = loop.run(_rotate(load(config), options))
    echo(f"certificate {report['certificateId']}, until {report['expires']}: {report['proof']}")
    echo(f"The one before is {report['previousCertificateId']}; verge provision rollback goes back to it.")


@command.command("rollback")
@_CONFIG
def rollback(config: Path) -> None:
    """Go back to the certificate before the last rotation.

    \b
    Example:
      verge provision rollback -c verge.toml
    """  # noqa: D301 click reads the backspace
    loaded = load(config)
    _, options = _cloud(loaded)
    Home.of(options.cert_file).rollback()
    echo(f"{options.cert_file} is the one before: {loop.run(prove(options, loaded.thing))}")


async def _rotate(config: Config, rotation: RotateOptions) -> dict[str, str]:
    name, options = _cloud(config)
    home = Home.of(options.cert_file)
    # Beside the agent's outbox, which belongs to the agent.
    async with create(name, _alone(options, config.thing)) as transport:
        await transport.wait_connected(_CONNECT_S)
        return dict(await rotate(rotation, config.thing, home, options, transport))


def _alone(options: IotCoreOptions, thing: str) -> IotCoreOptions:
    values = {name: getattr(options, name) for name in ("endpoint", "port", "alpn", "ca_file", "cert_file", "key_file")}
    return IotCoreOptions(**values, client_id=options.client_id or thing)


def _cloud(config: Config) -> tuple[str, IotCoreOptions]:
    for name, options in config.transports.items():
        if options.provisioned is not None:
            return name, options.provisioned
    raise ConfigError(
        "no transport of the configuration is of the type iotcore with cert_file and key_file", code="no-certificate"
    )


def _enrollment(
    config: Path, endpoint: str, port: int | None, ca: Path | None, identity: Path | None, force: bool
) -> Enrollment:
    home = Home(identity or config.parent / "identity")
    return Enrollment(config, home, endpoint, port, ca, force)


def _pairs(parameters: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(parameter.partition("=")[::2] for parameter in parameters)
    if not all("=" in parameter for parameter in parameters) or "" in pairs:
        raise click.BadParameter("each is NAME=VALUE", param_hint="--parameter")
    return pairs


def _show(done: Enrolled) -> None:
    name = done.facts.common_name
    note = "" if name in {done.thing, "AWS IoT Certificate"} else f" (its common name is {name!r}, which is fine)"
    echo(f"thing {done.thing}: {done.proof}")
    echo(f"{done.pair.certificate}: certificate {done.facts.id}, until {done.facts.ends:%Y-%m-%d}{note}")
    echo(f"{done.config}: now verge doctor -c {done.config} --topics, then verge run -c {done.config}")
