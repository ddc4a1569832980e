"""Mode ``local``: steps on a rank's own rows, and averages of parameters."""

import pytest

from common.config import RunConfig
from ps.sync.local import moments_at_averages
from tests.ranks import program

RANKS = [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]


@pytest.mark.parametrize("n", RANKS)
def test_rounds_follow_the_formulas(n: int) -> None:
    assert program(n, "local.py").out == f"ok {n}\n"


@pytest.mark.parametrize(
    ("optimizer", "asked", "found"),
    [
        ("momentum", "auto", "reset"),
        ("adam", "auto", "keep"),
        ("adam", "reset", "reset"),
        ("sgd", "average", "average"),
    ],
)
def test_what_becomes_of_moments(optimizer: str, asked: str, found: str) -> None:
    assert moments_at_averages(RunConfig(mode="local", optimizer=optimizer, local_momentum=asked)) == found
