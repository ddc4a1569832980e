"""Rows are dealt completely, once, and independently of the number of ranks."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.data.sampler import RowSampler
from common.data.scaling import row_type
from common.rng import Stream, generator
from common.step_times import n_samples, spread

SIZES = st.integers(1, 9)


def epoch(n: int, batch: int, kind: str, size: int, number: int = 1, seed: int = 0) -> list[list[np.ndarray]]:
    """Return the rows by step and rank."""
    sampler = RowSampler(n, batch, seed, kind, size)
    ranks = [np.split(sampler.order(number, r), np.cumsum(sampler.counts(r))[:-1]) for r in range(size)]
    assert all(len(steps) == sampler.steps_per_epoch for steps in ranks)
    return [[steps[k] for steps in ranks] for k in range(sampler.steps_per_epoch)]


@given(n=st.integers(1, 200), batch=st.integers(0, 250), kind=st.sampled_from(["shuffle", "shard"]), size=SIZES)
def test_every_row_is_used_once(n: int, batch: int, kind: str, size: int) -> None:
    steps = epoch(n, batch, kind, size)
    rows = np.concatenate([rows for step in steps for rows in step])
    assert sorted(rows) == list(range(n))
    assert len(steps) == -(-n // (batch or n))


@given(n=st.integers(1, 200), batch=st.integers(1, 250), size=SIZES, number=st.integers(1, 5))
def test_rows_of_a_step_do_not_depend_on_the_ranks(n: int, batch: int, size: int, number: int) -> None:
    alone, shared = epoch(n, batch, "shuffle", 1, number), epoch(n, batch, "shuffle", size, number)
    for one, many in zip(alone, shared, strict=True):
        assert sorted(one[0]) == sorted(np.concatenate(many))
        counts = [len(rows) for rows in many]
        assert max(counts) - min(counts) <= 1


@given(n=st.integers(1, 200), batch=st.integers(1, 50), size=SIZES)
def test_a_shard_stays_with_its_rank(n: int, batch: int, size: int) -> None:
    first, second = epoch(n, batch, "shard", size, 1), epoch(n, batch, "shard", size, 2)
    for rank in range(size):
        own = [np.concatenate([step[rank] for step in steps]) for steps in (first, second)]
        assert sorted(own[0]) == sorted(own[1])


def test_order_changes_with_epoch_and_seed_only() -> None:
    rows = [
        epoch(50, 10, "shuffle", 1, number, seed)[0][0].tolist() for number, seed in ((1, 0), (2, 0), (1, 1), (1, 0))
    ]
    assert rows[0] == rows[3]
    assert rows[0] not in rows[1:3]


def test_orders_take_four_bytes_a_row_and_are_those_of_earlier_versions() -> None:
    """These drew them with ``permutation``, of numbers of eight bytes."""
    sampler = RowSampler(1000, 10, 3, "shuffle", 1)
    order = sampler.order(2, 0)
    assert order.dtype == np.int32
    assert order.tolist() == generator(3, Stream.ORDER, 2).permutation(1000).tolist()
    assert RowSampler(1000, 10, 3, "shard", 2).order(2, 1).dtype == np.int32
    assert row_type(2**31 - 1) == np.int32
    assert row_type(2**31) == np.int64


@given(st.integers(1, 100_000), st.floats(0, 2))
def test_sampled_steps_are_as_many_as_allowed_and_spread(n: int, rate: float) -> None:
    steps = spread(n, n_samples(n, rate))
    assert len(steps) >= min(n, 8)
    assert len(steps) in (min(n, 8), min(n, 1024), int(rate * n))
    assert steps == sorted(set(steps))
    assert steps[-1] < n
    gaps = {b - a for a, b in pairwise(steps)}
    assert not gaps or max(gaps) - min(gaps) <= 1
