"""The canary: when enough is known, and what is decided then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.deployments.canary import CanaryVerdict, Trial, verdict
from agent.greengrass.deployments.request import Canary


def trial(agreed: int, differed: int, *, old_ms: float = 10.0, new_ms: float = 10.0) -> Trial:
    found = Trial()
    for number in range(agreed + differed):
        found = found.compared("" if number < agreed else "says cat", old_ms=old_ms, new_ms=new_ms)
    return found


def test_it_passes_with_exactly_the_agreement_that_is_asked_for() -> None:
    assert verdict(Canary(frames=10, agreement=0.9), trial(9, 1), elapsed_s=0).verdict is CanaryVerdict.PASS


def test_it_asks_for_more_until_it_has_seen_enough() -> None:
    assert verdict(Canary(frames=10), trial(9, 0), elapsed_s=1e9).verdict is CanaryVerdict.MORE
    assert verdict(Canary(seconds=10), trial(9, 0), elapsed_s=9.9).verdict is CanaryVerdict.MORE
    assert verdict(Canary(seconds=10), trial(9, 0), elapsed_s=10).verdict is CanaryVerdict.PASS


def test_time_without_frames_proves_nothing() -> None:
    assert verdict(Canary(seconds=10), Trial(), elapsed_s=100).verdict is CanaryVerdict.MORE


def test_it_fails_as_soon_as_the_frames_that_are_left_could_not_help() -> None:
    decision = verdict(Canary(frames=100, agreement=0.9), trial(0, 11), elapsed_s=0)
    assert decision.verdict is CanaryVerdict.FAIL
    assert decision.reason == (
        "the new model disagrees with the old one on 11 of 11 frames; agreement on 90% is wanted; "
        "on the first of them it says cat"
    )
    assert verdict(Canary(frames=100, agreement=0.9), trial(0, 10), elapsed_s=0).verdict is CanaryVerdict.MORE


def test_a_slower_model_fails_with_the_numbers() -> None:
    decision = verdict(Canary(frames=4), trial(4, 0, new_ms=25.0), elapsed_s=0)
    assert decision.verdict is CanaryVerdict.FAIL
    assert decision.reason == (
        "the new model takes 2.50 times as long as the old one over 4 frames; 2 times is allowed"
    )


def test_one_slow_frame_is_not_a_slow_model() -> None:
    found = trial(9, 0).compared("", old_ms=10.0, new_ms=5000.0)
    assert verdict(Canary(frames=10), found, elapsed_s=0).verdict is CanaryVerdict.PASS


def test_a_frame_that_only_the_new_model_fails_is_a_disagreement() -> None:
    assert verdict(Canary(frames=2), trial(1, 0).failed(), elapsed_s=0).verdict is CanaryVerdict.FAIL


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60), st.floats(0, 1))
def test_an_early_verdict_is_the_one_that_the_end_would_give(same, frames, agreement) -> None:
    canary = Canary(frames=frames, agreement=agreement)
    found, decided = Trial(), None
    for each in same[:frames]:
        found = found.compared("" if each else "says cat", old_ms=1, new_ms=1)
        now = verdict(canary, found, elapsed_s=0).verdict
        assert decided in {None, now}
        decided = now if now is not CanaryVerdict.MORE else None
    if found.frames == frames:
        assert (decided is CanaryVerdict.PASS) == (found.agreed / frames >= agreement)


def test_a_trial_of_slow_models_may_take_longer_unless_its_owner_says_otherwise() -> None:
    assert Canary(frames=20).paced(0.1).patience_s == 600.0
    assert Canary(frames=20).paced(10.0).patience_s == 800.0
    assert Canary(seconds=400).paced(10.0).patience_s == 800.0
    assert Canary(frames=20, timeout_s=5.0).paced(10.0).patience_s == 5.0
