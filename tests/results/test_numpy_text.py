"""NumPy itself is the specification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.results.formats.numpy_text import row

FRACTIONS = st.floats(0, 1)
ROUNDED = st.builds(round, FRACTIONS, st.integers(0, 8))
ANY = st.floats(-(2.0**126), 2.0**126, width=32)


def printed(values):
    with np.printoptions(precision=8, floatmode="maxprec", suppress=False, linewidth=75, sign="-"):
        return str(np.array(values, np.float32))


@settings(max_examples=150)
@given(st.lists(FRACTIONS | ROUNDED | st.floats(-0.5, 1.5), min_size=4, max_size=4))
@example([0.0, 0.0, 1.0, 1.0])
@example([0.0, 0.0, 0.0, 0.0])
@example([-0.0, 0.25, 0.5, 1.0])
@example([-0.0123, 0.1, 1.05, 0.9])
@example([0.0001, 0.01, 0.05, 0.1])
@example([0.001, 0.5, 0.99, 1.0])
@example([0.00099, 0.5, 0.99, 1.0])
@example([0.0000999, 0.0, 0.00001, 0.0])
@example([0.1, 0.2, 0.3, 0.4])
@example([1 / 3, 2 / 3, 1 / 7, 0.999999999])
def test_a_row_of_fractions_reads_as_numpy_prints_it(values):
    assert row(values) == printed(values)


PIXELS = st.floats(0, 512) | st.integers(-20, 532).map(float) | st.floats(-20, 532)


@settings(max_examples=150)
@given(st.lists(PIXELS, min_size=4, max_size=4))
@example([0.0, 0.0, 512.0, 512.0])
@example([51.2, 128.0, 256.0, 384.0])
@example([0.4, 3.25, 511.99, 400.5])
@example([0.5, 3.25, 511.99, 400.5])
@example([-3.5, 10.0, 99.999999, 512.0])
def test_a_row_of_pixels_reads_as_numpy_prints_it(values):
    assert row(values) == printed(values)


@settings(max_examples=150)
@given(st.lists(ANY, min_size=4, max_size=4))
def test_a_row_of_any_float32_reads_as_numpy_prints_it(values):
    assert row(values) == printed(values)


@pytest.mark.parametrize("ratio", [999.9, 1000.0, 1000.1])
def test_the_switch_to_exponents_is_where_numpys_is(ratio):
    values = [1 / ratio, 1.0, 0.5, 0.25]
    assert row(values) == printed(values)


def test_what_the_samples_read_back_is_the_box():
    text = row((0.12345678, 0.5, 1.0, 0.25))
    assert np.array(text[1:-1].split(), float) == pytest.approx([0.12345678, 0.5, 1.0, 0.25], abs=1e-7)
