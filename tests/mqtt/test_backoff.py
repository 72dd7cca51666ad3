from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.backoff import Backoff

SECONDS = st.floats(0.001, 100)


@given(SECONDS, SECONDS, st.integers(1, 30))
def test_the_ceiling_doubles_up_to_the_cap_and_each_delay_is_below_it(base_s: float, cap_s: float, attempts: int):
    backoff = Backoff(base_s, cap_s)
    for attempt in range(attempts):
        ceiling_s = min(cap_s, base_s * 2**attempt)
        assert abs(backoff.ceiling_s - ceiling_s) <= 1e-9 * ceiling_s
        assert 0 <= backoff.next_s() <= ceiling_s * (1 + 1e-9)


def test_the_jitter_is_full():
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    backoff = Backoff(0.5, 3, uniform=uniform)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    assert asked == [(0, 0.5), (0, 1), (0, 2), (0, 3), (0, 3)]


def test_after_a_reset_it_begins_again():
    backoff = Backoff(0.5, 30)
    for _ in range(4):
        backoff.next_s()
    backoff.reset()
    assert backoff.ceiling_s == 0.5


@given(SECONDS, SECONDS)
def test_after_a_refusal_the_delay_is_long_at_once(base_s: float, cap_s: float):
    backoff = Backoff(base_s, cap_s)
    assert cap_s / 2 <= backoff.slow_s() <= cap_s
    assert backoff.ceiling_s == cap_s
