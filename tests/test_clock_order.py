"""Pushes in the order of clocks and ranks, whatever order they come in; and pushes too old to be applied."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.sync.served.order import InClockOrder
from tests.ranks import SharedStart, epochs
from tests.test_modes import parameters


def events(ranks: int, pushes: list[int], choices: list[int]) -> list[tuple[str, int]]:
    """Let ranks push so many times each, in an order that ``choices`` decide; return what the server does."""
    order, left, seen = InClockOrder(ranks), list(pushes), []
    may = [rank for rank in range(ranks) if left[rank]]
    due: list[list[int]] = []
    for rank in range(ranks):
        if not left[rank]:
            due += order.leave(rank)
    turn = 0
    while may or due:
        if not due:
            rank = may.pop(choices[turn % len(choices)] % len(may))
            turn += 1
            due = order.arrived(rank)
        while True:
            for (rank,) in due:
                seen.append(("apply", rank))
            due = []
            released = order.released()
            for rank in released:
                left[rank] -= 1
                seen.append(("release", rank))
                if left[rank]:
                    may.append(rank)
                else:
                    due += order.leave(rank)
            if not released and not (due := order.further()):
                break
    return seen


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.lists(st.integers(0, 99), min_size=1, max_size=30),
)
def test_the_order_of_arrival_changes_nothing(pushes: list[int], choices: list[int]) -> None:
    expected = []
    for clock in range(max(pushes)):
        for rank, most in enumerate(pushes):
            if clock < most:
                expected += [("apply", rank), ("release", rank)]
    assert events(len(pushes), pushes, choices) == expected


ASYNC = ["-m", "workers.run", "--mode", "async", "--hidden", "16", "--epochs", "2"]
IN_ORDER = [*ASYNC, "--order", "clock"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    named = {
        "calm": IN_ORDER,
        "slow-0": [*IN_ORDER, "--inject", "slow:rank=0,x=3"],
        "slow-2": [*IN_ORDER, "--inject", "slow:rank=2,x=3"],
        "whole": [*IN_ORDER, "--staleness", "0"],
        "dropped": [*ASYNC, "--max-delay", "1"],
        "shard": [*ASYNC, "--max-delay", "1", "--rows", "shard"],
    }
    return SharedStart(tmp_path_factory.mktemp("ordered"), {name: (3, job) for name, job in named.items()})


def bits(run: Path) -> bytes:
    return b"".join(array.tobytes() for _, array in sorted(parameters(run).items()))


@pytest.mark.slow
@pytest.mark.parametrize("other", ["slow-0", "slow-2"])
def test_a_run_in_order_has_the_same_bits_however_fast_its_ranks_are(batch: SharedStart, other: str) -> None:
    assert bits(batch.run("calm")) == bits(batch.run(other))


@pytest.mark.slow
def test_it_is_not_synchronous(batch: SharedStart) -> None:
    assert bits(batch.run("calm")) != bits(batch.run("whole"))
    for epoch in epochs(batch.run("calm")):
        assert epoch["staleness_most"] == [2, 2, 2]
        assert max(epoch["clock_gap"]) == 1


@pytest.mark.slow
def test_rows_of_gradients_that_were_too_old_are_dealt_again(batch: SharedStart) -> None:
    for epoch in epochs(batch.run("dropped")):
        assert sum(epoch["rows"]) == 1259
        assert sum(epoch["dropped"]) > 0
        assert max(epoch["staleness_most"]) == 0
        assert sum(epoch["pushes"]) - sum(epoch["dropped"]) == 3 * epoch["steps"]


@pytest.mark.slow
def test_none_is_too_old_where_only_one_rank_has_its_rows(batch: SharedStart) -> None:
    for epoch in epochs(batch.run("shard")):
        assert epoch["dropped"] == [0, 0, 0]
        assert sum(epoch["rows"]) == 1259
