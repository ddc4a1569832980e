"""Whole numbers of long columns: NumPy's own functions say the same, and take copies for it."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import whole_numbers
from common.data.whole_numbers import counted, different, first_fraction, places

DTYPES = ("int8", "uint8", ">i2", "int64", "uint64", "float16", "float32", "float64", "longdouble", "bool")
RNG = np.random.default_rng(2)
LONG = 600_000


@given(st.lists(st.integers(-128, 255), min_size=1, max_size=60), st.sampled_from(DTYPES), st.integers(0, 2**52))
def test_it_is_what_numpy_says(numbers: list[int], dtype: str, more: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_numbers, "AT_A_TIME", 7)
        shift = {"int64": more, "uint64": 2**63 + more, "float64": more}.get(dtype, 0)
        values = (np.array(numbers, object) % 256 + shift).astype(dtype if dtype != "int8" else "uint8")
        values = values.view("int8") if dtype == "int8" else values
        found = different(values)
        np.testing.assert_array_equal(found, np.unique(values))
        assert found.dtype == values.dtype
        assert first_fraction(values) is None
        if dtype == "uint64":
            return  # no labels
        labels, inverse = np.unique(values.astype(np.int64), return_inverse=True)
        place = places(values, labels)
        np.testing.assert_array_equal(place, inverse.reshape(-1))
        assert place.dtype == np.int64
        weight = RNG.random(len(values))
        np.testing.assert_array_equal(counted(place, len(labels)), np.bincount(inverse.reshape(-1)))
        rows = np.flatnonzero(RNG.random(len(values)) < 0.5)
        expected = np.bincount(inverse.reshape(-1)[rows], weight[rows], len(labels))
        np.testing.assert_allclose(counted(place, len(labels), rows, weight), expected)


@pytest.mark.parametrize("values", [[-(2.0**70), 2.0**70, 5], [1e300, -1e300], [2**40, 0, 7]])
def test_numbers_far_apart_are_told_apart(values: list[float]) -> None:
    for dtype in (np.float64, np.longdouble):
        np.testing.assert_array_equal(different(np.array(values, dtype)), sorted(values))


def test_the_first_fraction_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_numbers, "AT_A_TIME", 7)
    for place in (0, 6, 7, 29):
        values = np.arange(30.0)
        values[place] += 0.5
        assert first_fraction(values) == place


def test_values_without_a_label_get_a_place() -> None:
    """As rows of weight 0 may have them."""
    for labels in ([3, 4, 5], [3, 40, 50]):
        found = places(np.array([-9, 3, 5000]), np.array(labels))
        assert found.min() >= 0
        assert found.max() <= 2


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint8"])
def test_no_copies_are_taken(dtype: str) -> None:
    values: Any = RNG.integers(0, 10, LONG).astype(dtype)
    labels = np.arange(10)
    tracemalloc.start()
    try:
        whole_numbers.first_fraction(values)
        different(values)
        counted(values.astype(np.int64) if dtype != "int64" else values, 10)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        place = places(values, labels)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert (place is values) == (dtype == "int64")
    assert peak < (0 if dtype == "int64" else 8 * LONG) + (2 << 20)
