"""The record on disk: whole, mended from its copy, or gone with a word."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from agent.greengrass.trust.order import Claims, Mark, Record, accepted, forgotten
from agent.greengrass.trust.record import OrderRecord, OrderRecordError

AT = 1_795_000_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "order"


def opened(path, timestamps=None, **more) -> OrderRecord:
    record = OrderRecord(path)
    record.open(timestamps or {}, AT, **more)
    return record


def accept(record: OrderRecord, at: int = AT, group: str = "g") -> None:
    record.update(partial(accepted, claims=Claims("d", group, at)))


def files(path):
    return path, path.with_name("order.copy")


def test_what_was_accepted_is_there_after_a_restart_and_for_the_agent_alone(path):
    accept(opened(path))
    assert opened(path).read().groups == {"g": Mark(AT, "d")}
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("damaged", [0, 1])
@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_either_file_brings_the_record_back_and_mends_the_other(path, damaged, damage, caplog):
    accept(opened(path))
    file = files(path)[damaged]
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    record = opened(path)
    assert record.read().groups == {"g": Mark(AT, "d")}
    assert files(path)[0].read_bytes() == files(path)[1].read_bytes()
    assert bool(record.damage) == ("mended from its copy" in caplog.text) == (damage is not None)


def test_a_flipped_byte_anywhere_is_noticed(path):
    accept(opened(path))
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert opened(path).read().groups == {"g": Mark(AT, "d")}


def test_with_both_damaged_it_goes_on_from_the_active_set_and_says_so(path, caplog):
    accept(opened(path))
    for file in files(path):
        file.write_bytes(b"rubbish")
    record = opened(path, {"g": AT - 5})
    assert record.read() == Record(groups={"g": Mark(AT - 5, closed=True)}, forgot=True)
    assert "was damaged: it is lost" in record.damage
    assert caplog.records[-1].levelno == logging.ERROR
    assert opened(path).damage == ""


def test_where_there_is_none_it_begins_with_what_the_ledger_knows(path):
    assert opened(path, {"g": AT}, taken=("x",)).read() == Record(groups={"g": Mark(AT, closed=True)}, taken=("x",))
    assert opened(path, {"g": AT + 7}).read().groups == {"g": Mark(AT, closed=True)}


def test_damage_while_the_agent_runs_is_mended_by_the_next_write(path):
    record = opened(path)
    accept(record)
    for file in files(path):
        file.write_bytes(b"rubbish")
    accept(record, group="h")
    assert set(opened(path).read().groups) == {"g", "h"}


def test_what_another_process_forgets_is_forgotten_by_a_running_agent(path):
    agent = opened(path)
    accept(agent)
    OrderRecord(path).update(partial(forgotten, group="g", now_ms=AT, entirely=True))
    assert agent.read().groups == {}
    accept(agent, group="h")
    assert set(opened(path).read().groups) == {"h"}


def test_a_disk_that_refuses_is_said_with_what_to_look_at(tmp_path):
    (tmp_path / "file").touch()
    record = opened(tmp_path / "file" / "order")
    with pytest.raises(OrderRecordError, match="cannot be written") as caught:
        accept(record)
    assert caught.value.hint
    assert record.read().groups == {}
