"""What Verge measures of itself; never part of the tests' verdict, whose machines are shared and noisy."""

WARM = 20
"""Frames before each measurement that do not count."""

MODEL = "VERGE_BENCH_MODEL"
"""The environment variable that tells a rival's workers which model to load, as JSON."""
