"""Fixed shards: rows of a step do not depend on the ranks, a rank reads few places, a step sees all of the file."""

import mmap
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig
from common.data import maps
from common.data.dealing import edges
from common.data.sampler import RowSampler, kind_of
from common.data.shards import RUN, SHARDS, TURNS, in_runs, shard_starts
from ps.coordinator.earlier_run import known_config
from tests.test_batches import epoch

SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 48, 64, 65, 100, 128, 130])
SHARES = st.lists(st.floats(0.01, 10), min_size=1, max_size=9).map(tuple)


@given(n=st.integers(1, 900), batch=st.integers(1, 300), size=SIZES, number=st.integers(1, 3))
def test_rows_of_a_step_do_not_depend_on_the_ranks(n: int, batch: int, size: int, number: int) -> None:
    alone, shared = epoch(n, batch, "shard", 1, number), epoch(n, batch, "shard", size, number)
    for one, many in zip(alone, shared, strict=True):
        assert sorted(one[0]) == sorted(np.concatenate(many))


@given(n=st.integers(65, 2000), batch=st.integers(1, 300), number=st.integers(1, 3))
def test_a_step_takes_rows_from_all_of_the_file(n: int, batch: int, number: int) -> None:
    """Of every half, quarter and eighth of the file it takes as many rows, give or take one."""
    starts = shard_starts(n)
    for step in epoch(n, batch, "shard", 1, number)[:-1]:
        by_shard = np.bincount(np.searchsorted(starts, step[0], side="right") - 1, minlength=SHARDS)
        assert by_shard.max() - by_shard.min() <= 1
        for parts in (2, 4, 8):
            of_part = by_shard.reshape(parts, -1).sum(axis=1)
            assert of_part.max() - of_part.min() <= 1


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("batch", [64, 128, 100, 30])
def test_ranks_that_divide_the_shards_have_equal_rows_of_one_place(size: int, batch: int) -> None:
    n = 6400
    sampler = RowSampler(n, batch, 0, "shard", size)
    counts = np.array([sampler.counts(rank) for rank in range(size)])
    assert (counts.max(axis=0) - counts.min(axis=0) <= (batch % size != 0)).all()
    for rank in range(size):
        assert sorted(sampler.order(3, rank)) == list(range(n * rank // size, n * (rank + 1) // size))


def test_shards_are_the_same_for_any_ranks_and_cover_the_file() -> None:
    for n in (1, 63, 64, 65, 1000):
        sizes = np.diff(shard_starts(n))
        assert sizes.sum() == n
        assert sizes.max() - sizes.min() <= 1
    assert sorted(TURNS.tolist()) == list(range(SHARDS))


@given(n=st.integers(0, 5 * RUN), seed=st.integers(0, 20))
def test_an_order_has_each_row_once(n: int, seed: int) -> None:
    assert sorted(in_runs(n, np.random.default_rng(seed))) == list(range(n))


@pytest.mark.parametrize("n", [50 * RUN, 50 * RUN + 100])
def test_what_is_read_at_a_time_lies_together(n: int) -> None:
    order = in_runs(n, np.random.default_rng(0))
    places = [len(set((order[first : first + RUN] // RUN).tolist())) for first in range(0, n - RUN, 64)]
    assert max(places) <= 8  # two runs and what is left of them, at both ends; 32 of 50 if all rows were mixed
    assert np.abs(np.diff(order)).mean() > RUN / 4  # and is mixed


def test_other_epochs_and_seeds_take_other_rows() -> None:
    steps = [
        epoch(5000, 64, "shard", 1, number, seed)[0][0].tolist() for number, seed in ((1, 0), (2, 0), (1, 1), (1, 0))
    ]
    assert steps[0] == steps[3]
    assert len({*steps[0]} & {*steps[1]}) < 10
    assert len({*steps[0]} & {*steps[2]}) < 10


def test_runs_of_earlier_versions_keep_their_shards() -> None:
    """A configuration without ``shards`` is theirs; its rows are those that it had, to the bit."""
    values: dict[str, Any] = RunConfig(rows="shard").as_dict()
    assert kind_of(RunConfig(rows="shard")) == "shard"
    del values["shards"]
    then = known_config(values)
    assert then is not None
    assert kind_of(then) == "by-rank"
    sampler = RowSampler.of(then, 100, 3)
    expected = np.random.default_rng([0, 2, 5, 1]).permutation(np.arange(33, 66))
    assert sampler.order(5, 1).tolist() == expected.tolist()
    assert sampler.counts(1).tolist() == [16, 17]
    shuffled = known_config({**values, "rows": "shuffle"})
    assert shuffled is not None
    assert kind_of(shuffled) == "shuffle"


@given(n=st.integers(0, 500), shares=SHARES)
def test_rows_are_cut_so_that_the_last_is_done_as_early_as_can_be(n: int, shares: tuple[float, ...]) -> None:
    ends = edges(n, shares)
    counts, weights = np.diff(ends), np.array(shares)
    assert counts.sum() == n
    assert counts.min() >= int(n >= len(shares))
    last = (counts / weights).max()
    least = int(n >= len(shares))
    # what the others could take in less than that is not enough
    could = np.maximum(np.ceil(last * (1 - 1e-12) * weights) - 1, least).sum() if n else 0
    assert could < n or last == (least / weights).max() or n == 0


@given(n=st.integers(1, 400), batch=st.integers(0, 300), shares=SHARES, kind=st.sampled_from(["shuffle", "shard"]))
def test_shares_say_who_takes_rows_and_not_which(n: int, batch: int, shares: tuple[float, ...], kind: str) -> None:
    alone, size = RowSampler(n, batch, 0, kind, 1), len(shares)
    sampler = RowSampler(n, batch, 0, kind, size, shares=shares)
    ends = np.cumsum([0, *alone.counts(0)])
    orders = [sampler.order(2, rank) for rank in range(size)]
    each = [np.split(order, np.cumsum(sampler.counts(rank))[:-1]) for rank, order in enumerate(orders)]
    order = alone.order(2, 0)
    for k, (a, b) in enumerate(pairwise(ends)):
        assert sorted(np.concatenate([steps[k] for steps in each])) == sorted(order[a:b])


class Told:
    """Stands for a map and notes what it is told; ``madvise`` cannot be replaced in a real one."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.mapped, self.ranges = mapped, list[tuple[int, int]]()

    def madvise(self, advice: int, start: int, length: int) -> None:
        self.mapped.madvise(advice, start, length)  # which refuses what is no page's beginning or not of the file
        self.ranges.append((start, start + length))


@pytest.mark.parametrize(("rows", "expected"), [
    ([*range(9_000, 9_600), *range(100)], [(0, 100), (9_000, 9_600)]),
    ([*range(9_000, 9_600, 3)], [(9_000, 9_598)]),
    ([0, 20_000, 49_999], []),
    ([], []),
])  # fmt: skip
def test_rows_that_are_read_next_are_told_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[int], expected: list[tuple[int, int]]
) -> None:
    """Those that lie together, whole; nothing of rows that lie apart."""
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((50_000, 4), np.float64))
    array = maps.map_array(path)
    mapped = maps.map_of(array)
    assert mapped is not None
    begin, told = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data, Told(mapped)
    monkeypatch.setattr(maps, "_advise", lambda mapped, start, length: told.madvise(mmap.MADV_WILLNEED, start, length))
    maps.read_ahead(array, np.array(rows, np.int64))
    whole = [((begin + 32 * a) // mmap.PAGESIZE * mmap.PAGESIZE, begin + 32 * b) for a, b in expected]
    assert told.ranges == whole
    maps.read_ahead(np.zeros((50_000, 4)), np.arange(100))  # in memory
    assert told.ranges == whole


def test_rows_beyond_4_gib_are_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose places do not fit into 32 bits, though their numbers do. The file is a hole, and takes no disk."""
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (700_000, 1000)})
        begin = file.tell()
        file.truncate(begin + 700_000 * 8000)
    starts: list[int] = []
    monkeypatch.setattr(maps, "_advise", lambda mapped, start, length: starts.append(start))
    maps.read_ahead(maps.map_array(path), np.arange(699_000, 699_100, dtype=np.int32))
    assert starts == [(begin + 699_000 * 8000) // mmap.PAGESIZE * mmap.PAGESIZE]
