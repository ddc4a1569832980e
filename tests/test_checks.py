"""The checksum of parameters, and norms of vectors whose squares overflow."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.checksum import COLUMNS, WEIGHT, check, is_finite, long_norm
from common.flat import BLOCK

N = 2 * BLOCK + 100


def draw(dtype: str) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(N).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(cuts=st.lists(st.integers(0, N), max_size=4))
def test_checksums_of_parts_add_up(dtype: str, cuts: list[int]) -> None:
    """Ranks of a node look at their slices; nodes cut alike, but a run in another mode does not."""
    vector = draw(dtype)
    edges = [0, *sorted(cuts), N]
    parts = [check(vector[a:b], a)[0] for a, b in itertools.pairwise(edges)]
    assert sum(parts) % 2**64 == check(vector, 0)[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_bit_and_one_swap_show(dtype: str) -> None:
    vector = draw(dtype)
    whole = check(vector, 0)[0] >> 16
    for at in (0, BLOCK, N - 1):
        other = vector.copy()
        other.view(np.uint8)[at * vector.itemsize] ^= 1
        assert check(other, 0)[0] >> 16 != whole
    for a, b in ((5, N - 5), (5, 6), (7, 7 + COLUMNS), (N - 2, N - 1)):
        other = vector.copy()
        other[[a, b]] = other[[b, a]]
        assert check(other, 0)[0] >> 16 != whole


def test_flips_that_cancel_in_a_sum_show() -> None:
    """The same bit set in one word and cleared in another, of one block."""
    vector = np.ones(N, np.float32)
    words = vector.view(np.uint32)
    for bit in (0, 15, 22, 31):
        words[3] = np.uint32(0x3F800000) & ~np.uint32(1 << bit)
        words[11] = np.uint32(0x3F800000) | np.uint32(1 << bit)
        before = check(vector, 0)[0] >> 16
        words[[3, 11]] = words[[11, 3]]
        assert check(vector, 0)[0] >> 16 != before
        words[:] = 0x3F800000


def test_a_checksum_by_its_definition() -> None:
    vector = np.random.default_rng(4).standard_normal(3 * COLUMNS + 5)
    words = vector.view(np.uint32).tolist()
    expected = sum((2 * (40 + p) + 1) * WEIGHT * word for p, word in enumerate(words)) % 2**64
    assert check(vector, 20) == (expected, True)  # two words a number


@np.errstate(all="ignore")  # as in training
@pytest.mark.parametrize("at", [0, BLOCK + 1, N - 1])
def test_what_is_not_finite_is_found(at: int) -> None:
    vector = np.full(N, 1e30, np.float32)  # squares overflow, the numbers do not
    assert check(vector, 0)[1]
    assert is_finite(vector)
    assert long_norm(vector) == pytest.approx(1e30 * math.sqrt(N), rel=1e-5)
    for bad in (np.nan, np.inf):
        vector[at] = bad
        assert not check(vector, 0)[1]
        assert math.isnan(long_norm(vector))
