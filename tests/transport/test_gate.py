import threading

from agent.transport.gate import Gate


def entering(gate: Gate, size: int) -> threading.Thread:
    thread = threading.Thread(target=gate.enter, args=(size,), daemon=True)
    thread.start()
    return thread


def test_who_comes_past_the_bound_in_messages_waits_until_one_left():
    gate = Gate(2, 1000)
    gate.enter(1)
    gate.enter(1)
    waits = entering(gate, 1)
    waits.join(0.05)
    assert waits.is_alive()
    gate.leave(1)
    waits.join(5)
    assert not waits.is_alive()


def test_who_comes_past_the_bound_in_bytes_waits_until_there_is_room():
    gate = Gate(100, 1000)
    gate.enter(600)
    waits = entering(gate, 600)
    waits.join(0.05)
    assert waits.is_alive()
    gate.leave(600)
    waits.join(5)
    assert not waits.is_alive()


def test_one_message_is_let_through_however_large():
    Gate(1, 10).enter(1_000_000)


def test_an_open_gate_blocks_nobody():
    gate = Gate(1, 10)
    gate.enter(1)
    waits = entering(gate, 1)
    gate.open()
    waits.join(5)
    assert not waits.is_alive()
    gate.enter(1)
