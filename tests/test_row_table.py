"""Rows by rank and step, which follow from a rule: the same as dealt row by row, without a table of ranks x steps."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.data.row_table import RowTable
from common.data.sampler import Joint, RowSampler
from common.data.scaling import Rows
from ps.sync.synchronizer import own_rows

RANKS, STEPS = 1024, 20_000
KINDS = ("shuffle", "shard", "by-rank")


@example(n=900, batch=32, size=6, kind="shard", shares=False, joint=0, old=0, wide=11)
@given(
    n=st.integers(1, 900), batch=st.integers(0, 90), size=st.integers(1, 12), kind=st.sampled_from(KINDS),
    shares=st.booleans(), joint=st.integers(0, 5), old=st.integers(0, 90), wide=st.sampled_from([1, 1, 1, 64, 11]),
)  # fmt: skip
def test_rows_by_rule_are_those_that_are_dealt(
    n: int, batch: int, size: int, kind: str, shares: bool, joint: int, old: int, wide: int
) -> None:
    size = size * wide if kind != "by-rank" else size
    unequal = shares and kind != "by-rank" and (kind == "shuffle" or size <= 64)
    given_shares = tuple(1.0 + rank % 3 for rank in range(size)) if unequal else ()
    plain = RowSampler(n, batch, 1, kind, size, None, given_shares)
    steps = RowSampler(n, old, 1, kind, size).steps_per_epoch
    sampler = (
        plain if not joint else RowSampler(n, batch, 1, kind, size, Joint(2, joint % steps + 1, old), given_shares)
    )
    table = RowTable.of(sampler)
    assert table.shape == (size, plain.steps_per_epoch + sampler.splits_step)
    ranks = range(size) if size < 80 else [*range(5), size // 2, size - 1]
    dealt = np.array([dealt_rows(sampler, rank) for rank in ranks])
    np.testing.assert_array_equal([table.rows(rank) for rank in ranks], dealt)
    if len(dealt) < size:
        return
    total, equal, active = table.figures()
    np.testing.assert_array_equal(total, dealt.sum(axis=0))
    np.testing.assert_array_equal(equal, (dealt == dealt[0]).all(axis=0))
    np.testing.assert_array_equal(active, (dealt > 0).sum(axis=0))
    half = [*range(size // 2)]
    np.testing.assert_array_equal(table.summed(half), dealt[half].sum(axis=0))
    rest = [*range(size // 2, size)]
    assert table.most([half, rest]) == max(int(dealt[ranks].sum(axis=0).max()) for ranks in (half, rest))


def dealt_rows(sampler: RowSampler, rank: int) -> list[int]:
    """Return the rows of each step of a rank as the places it is dealt tell, and last those after a joint."""
    n, batch, steps = sampler.n, sampler.batch_size or sampler.n, sampler.steps_per_epoch
    order = sampler.order(1, rank)
    if sampler.kind == "by-rank" or (sampler.kind == "shard" and sampler.fixed):
        ends = [len(order) * k // steps for k in range(steps + 1)]
        found = [b - a for a, b in itertools.pairwise(ends)]
    else:  # the rows of a step are the same on one rank
        whole = RowSampler(n, sampler.batch_size, sampler.seed, sampler.kind, 1).order(1, 0)
        step_of = np.empty(n, int)
        step_of[whole] = np.arange(n) // batch
        found = np.bincount(step_of[order], minlength=steps).tolist()
    return [*found, len(sampler.joint_rows(rank))] if sampler.splits_step else found


@pytest.mark.parametrize(
    ("kind", "batch", "shares"),
    [("shuffle", 4096, False), ("shuffle", 4096, True), ("shard", 4096, False), ("shard", 1001, False)],
)
def test_a_thousand_ranks_hold_no_table_of_all_steps(kind: str, batch: int, shares: bool) -> None:
    """It was 164 MB in every rank."""
    given_shares = tuple(np.linspace(1, 2, RANKS).tolist()) if shares else ()
    sampler = RowSampler(batch * STEPS - 7, batch, 0, kind, RANKS, None, given_shares)
    tracemalloc.start()
    rows = own_rows(RowTable.of(sampler), RANKS - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows.own) == STEPS
    assert rows.total.tolist() == [batch] * (STEPS - 1) + [batch - 7]
    assert peak < 40 * 8 * STEPS, "a few numbers a step"


def test_steps_that_are_alike_are_counted_once() -> None:
    calls: list[int] = []
    for kind in ("shuffle", "shard"):
        sampler = RowSampler(4096 * STEPS - 7, 4096, 0, kind, RANKS)
        first, of_step = sampler.kinds()
        assert (len(first), len(of_step)) == (2, STEPS)

        def of_rank(rank: int, sampler: RowSampler = sampler, first: Rows = first) -> Rows:
            calls.append(rank)
            return sampler.counts_of(rank, first)

        calls.clear()
        own_rows(RowTable(RANKS, of_step, of_rank), 3)
        assert len(calls) <= RANKS + 1
