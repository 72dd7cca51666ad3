"""``verge provision`` as a person runs it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.commands import invoke


@pytest.fixture
def said(site, tmp_path):
    """Run the command while the service answers."""

    async def run(*arguments: object):
        return await asyncio.to_thread(invoke, tmp_path, "provision", *arguments)

    return run


def where(site) -> list[object]:
    at = site.cloud.certificates
    return ["-c", "verge.toml", "--endpoint", "127.0.0.1", "--port", site.cloud.broker.port, "--ca", at.ca]


def claim(site, *more: object) -> list[object]:
    at = site.cloud.certificates
    files = ["--claim-cert", at.client_cert, "--claim-key", at.client_key]
    return ["claim", *where(site), "--template", "verge", *files, *more]


async def test_a_claim_is_made_rotated_and_taken_back(site, said, tmp_path) -> None:
    done = await said(*claim(site, "--parameter", "SerialNumber=17"))
    assert done.returncode == 0, done.stderr
    assert "thing thing-17: connected, subscribed" in done.stdout
    current = tmp_path / "identity/current/certificate.pem"
    first = current.read_bytes()
    done = await said("rotate", "-c", "verge.toml", "--template", "again")
    assert done.returncode == 0, done.stderr
    assert "verge provision rollback" in done.stdout
    assert current.read_bytes() != first
    done = await said("rollback", "-c", "verge.toml")
    assert done.returncode == 0, done.stderr
    assert current.read_bytes() == first


async def test_what_is_wrong_is_two_lines_and_an_exit_status(site, said, tmp_path) -> None:
    site.service.rejects["provision"] = (400, "InvalidParameters", "SerialNumber is missing")
    done = await said(*claim(site))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "verge: the service refused: InvalidParameters (400): SerialNumber is missing",
        "       give the parameters that the template asks for: --parameter NAME=VALUE",
    ]
    assert not (tmp_path / "verge.toml").exists()
    done = await said(*claim(site, "--parameter", "SerialNumber"))
    assert (done.returncode, "NAME=VALUE" in done.stderr) == (2, True)


async def test_files_are_taken_over(site, said, tmp_path) -> None:
    at = site.cloud.certificates
    done = await said("files", *where(site), "--thing", "edge-1", "--cert", at.client_cert, "--key", at.client_key)
    assert done.returncode == 0, done.stderr
    assert "its common name is 'client', which is fine" in done.stdout
    again = await said("files", *where(site), "--thing", "edge-1", "--cert", at.client_cert, "--key", at.client_key)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
