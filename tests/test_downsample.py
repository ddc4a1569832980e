"""Streams cut down to so many items."""

import pytest

from ps.reader.downsample import Downsampler


def downsampled(n: int, most: int) -> Downsampler[int]:
    result = Downsampler[int](most)
    for i in range(n):
        result.add(i)
        assert len(result.kept()) <= most  # at every moment, so memory is bounded too
    return result


@pytest.mark.parametrize("most", [2, 3, 4, 7, 40])
def test_first_and_last_are_kept_and_the_rest_evenly(most: int) -> None:
    for n in range(1, 300):
        found = downsampled(n, most)
        kept = found.kept()
        assert kept == [*range(0, n - 1, found.stride), n - 1]
        assert len(kept) == n or len(kept) > most // 2


def test_few_items_are_all_kept() -> None:
    assert (downsampled(5, 5).kept(), downsampled(5, 5).stride) == ([0, 1, 2, 3, 4], 1)
    assert downsampled(0, 5).kept() == []
