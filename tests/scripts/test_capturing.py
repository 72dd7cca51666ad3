"""Captures through kill -9, a full disk and no network, in short; ``scripts/check-capture`` does it with 10 000."""

from __future__ import annotations

import pytest

from scripts import capturing


async def test_captures_are_on_the_disk_once_and_in_order_through_kills_and_a_full_disk() -> None:
    with capturing.small_disk("16m") as disk:
        if disk is None:
            pytest.skip("root may mount a small disk: sudo -E python -m pytest tests/scripts/test_capturing.py")
        proof = await capturing.prove("disk", 200, kills=2, small_disk=disk)
    assert proof.holds, proof
    assert (proof.full_disks, proof.kills) == (1, 2)
    assert proof.refused


async def test_captures_are_in_the_bucket_once_and_in_order_through_kills_and_an_outage() -> None:
    proof = await capturing.prove("cloud", 200, kills=2)
    assert proof.holds, proof
    assert (proof.outages, proof.kills) == (1, 2)
