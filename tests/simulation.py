"Simulations: a short one with fixed seeds in every run of the tests, and one of at least 2,000 draws in `make nightly`"

import pytest
from statsmodels.stats.proportion import proportion_confint


def runs(short: int, part: str, full: int = 2000) -> pytest.MarkDecorator:
    "Give a test its number of `runs`: few, and in a part of the nightly tests at least 2,000"
    return pytest.mark.parametrize("runs", [short, pytest.param(full, marks=pytest.mark.nightly(part))])


def meets(hits: float, runs: int, low: float, high: float) -> bool:
    "Whether a share seen in so many runs agrees with a range: its Wilson interval at 95 % meets it"
    below, above = proportion_confint(round(hits), runs, method="wilson")
    return below <= high and above >= low
