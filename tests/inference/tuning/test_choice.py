"""Which combination is chosen: fast, in agreement, and no dearer than it must be."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inference.placement import Placement
from agent.inference.tuning.choice import LEAST, MOST, choose, figures, margin, ranked
from agent.inference.tuning.values import Measured
from agent.results.result import Reason

OUT = Reason("disagrees", "it says dog, not cat")


def one(threads: int, median_ms: float, *, noise: float = 0.0, backend="litert", accelerator="cpu", problem=None):
    way = Placement(backend, accelerator, threads)
    return Measured(placement=way, rounds=9, median_ms=median_ms, p95_ms=median_ms, noise=noise, problem=problem)


MEASURED = st.lists(
    st.builds(
        one,
        st.integers(1, 4),
        st.floats(0.1, 1000),
        noise=st.floats(0, 1),
        backend=st.sampled_from(["litert", "onnx", "opencv"]),
        accelerator=st.sampled_from(["cpu", "gpu"]),
        problem=st.sampled_from([None, None, OUT]),
    ),
    max_size=8,
    unique_by=lambda each: each.placement,
)


@given(MEASURED)
def test_the_winner_is_never_slower_than_the_fastest_by_more_than_the_margin(measured) -> None:
    chosen, _ = choose(measured)
    fit = [each for each in measured if each.fit]
    assert (chosen is None) is not bool(fit)
    if chosen is not None:
        fastest = min(each.median_ms for each in fit)
        assert chosen.median_ms <= fastest * (1 + MOST) * (1 + 1e-9)


@given(MEASURED)
def test_what_disagrees_or_failed_never_wins(measured) -> None:
    chosen, _ = choose(measured)
    assert chosen is None or chosen.problem is None
    assert all(not each.fit for each in ranked(measured)[sum(each.fit for each in measured) :])


@given(MEASURED)
def test_more_threads_win_only_by_a_lead_beyond_noise(measured) -> None:
    chosen, _ = choose(measured)
    for each in measured:
        if chosen is not None and each.fit and each.placement.threads < chosen.placement.threads:
            assert each.median_ms > chosen.median_ms * (1 + LEAST) * (1 - 1e-9)


@given(MEASURED, st.randoms(use_true_random=False))
def test_the_order_of_measuring_does_not_matter(measured, random) -> None:
    shuffled = random.sample(measured, len(measured))
    assert choose(shuffled)[0] == choose(measured)[0]
    assert ranked(shuffled)[:1] == ranked(measured)[:1]


@given(MEASURED)
def test_the_winner_is_first_in_the_list_and_the_others_follow_by_speed(measured) -> None:
    order = ranked(measured)
    assert sorted(map(id, order)) == sorted(map(id, measured))
    chosen, _ = choose(measured)
    if chosen is not None:
        assert order[0] is chosen
        rest = [each.median_ms for each in order[1:] if each.fit]
        assert rest == sorted(rest)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_margin_grows_with_the_noise_between_two_bounds(noise, other) -> None:
    assert LEAST <= margin(one(1, 10, noise=noise), one(2, 10, noise=other)) <= MOST


@pytest.mark.parametrize(
    ("measured", "threads", "reason"),
    [
        ([one(1, 13.0), one(2, 8.0)], 2, "it is the fastest: litert on cpu, 1 thread takes 62% longer"),
        (
            [one(1, 10.3), one(2, 10.0)],
            1,
            "it comes within 3% of litert on cpu, 2 threads, which is noise, and takes fewer threads",
        ),
        (
            [one(1, 11.0, noise=0.04), one(2, 10.0, noise=0.03)],
            1,
            "it comes within 10% of litert on cpu, 2 threads, which is noise, and takes fewer threads",
        ),
        ([one(1, 11.0), one(2, 10.0)], 2, "it is the fastest: litert on cpu, 1 thread takes 10% longer"),
        (
            [one(1, 10.0), one(2, 10.1)],
            1,
            "nothing is faster: litert on cpu, 2 threads comes within 1% of it, which is noise",
        ),
        ([one(1, 10.0), one(2, 1.0, problem=OUT)], 1, "nothing else runs the model here as it should"),
    ],
)
def test_the_reason_is_told_with_the_figures(measured, threads, reason) -> None:
    chosen, why = choose(measured)
    assert chosen is not None
    assert (chosen.placement.threads, why) == (threads, reason)


def test_where_nothing_is_fit_the_first_problem_is_the_reason() -> None:
    assert choose([]) == (None, "no backend here reads the model")
    assert choose([one(1, 1.0, problem=OUT)]) == (None, "nothing runs the model here (it says dog, not cat)")


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60))
def test_figures_are_of_the_durations_themselves(times) -> None:
    summary = figures(times)
    assert summary.median_ms == statistics.median(times)
    assert summary.median_ms <= summary.p95_ms * (1 + 1e-9)
    assert summary.p95_ms in times
    assert summary.noise >= 0


def test_one_outlier_makes_no_noise() -> None:
    assert figures([10.0] * 20 + [5000.0]).noise == 0
    assert figures([10.0] * 20 + [5000.0]).median_ms == 10
