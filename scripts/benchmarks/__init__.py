"""What Verge measures of itself; never part of the tests, whose machines are shared and noisy."""
