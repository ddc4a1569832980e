"""What a rank does outside of steps, counted at 1,024 pretended ranks: nothing that takes ranks x ranks."""

from typing import Any

import msgpack
import numpy as np
import pytest
from mpi4py import MPI

from common.errors import JobError
from common.process_table import Process, below, by_parent
from ps.comm import agreement
from ps.comm.agreement import at_root, odd_ranks, same_everywhere, together
from ps.comm.collectives import HEAD, bcast
from ps.comm.topology import divided
from ps.findings import straggler

SIZE = 1024


class Pretended:
    """A communicator of many ranks, of which this one is there; the others hand in what it does, or ``others``.

    ``calls``: names and bytes of what this rank hands in or gets.
    """

    def __init__(self, rank: int = 5, others: dict[int, Any] | None = None) -> None:
        self.rank, self.size, self.calls, self.others = rank, SIZE, list[tuple[str, int]](), others or {}
        self.root: list[np.ndarray] = []

    def Allreduce(self, _: object, values: np.ndarray, op: MPI.Op) -> None:  # noqa: N802
        assert op == MPI.MAX
        self.calls.append(("Allreduce", values.nbytes))
        for other in self.others.values():
            np.maximum(values, other(values), out=values)

    def Allgather(self, own: np.ndarray, table: np.ndarray) -> None:  # noqa: N802
        self.calls.append(("Allgather", table.nbytes))
        table[:] = own

    def Allgatherv(self, own: np.ndarray, table: list[Any]) -> None:  # noqa: N802
        self.calls.append(("Allgatherv", table[0].nbytes))
        table[0][:] = np.tile(own, SIZE)

    def Bcast(self, values: np.ndarray, root: int = 0) -> None:  # noqa: N802
        self.calls.append(("Bcast", values.nbytes))
        if self.rank == root:
            self.root.append(values.copy())
        else:
            values[:] = self.root.pop(0)


def test_agreeing_takes_a_sum_and_not_what_each_rank_has_to_say() -> None:
    comm: Any = Pretended()
    assert together(comm, lambda: 7) == 7
    assert comm.calls == [("Allreduce", 4)]
    comm = Pretended()
    same_everywhere(comm, b"x" * 10_000, "data", "")
    assert comm.calls == [("Allreduce", 64)]


def test_one_that_differs_is_found_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its digest is larger or smaller."""
    monkeypatch.setattr(agreement, "host", lambda: "n1")
    for of_other in (np.zeros_like, lambda values: np.full_like(values, 2**64 - 1)):

        def other(values: np.ndarray, of_other: Any = of_other) -> np.ndarray:
            words = of_other(values[:4])
            return np.concatenate([words, ~words])

        comm: Any = Pretended(others={9: other})
        with pytest.raises(JobError, match="not the same on all ranks"):  # here all others then say the same
            same_everywhere(comm, b"x", "data", "")
        assert [name for name, _ in comm.calls][:3] == ["Allreduce", "Allgather", "Allgatherv"]
    comm = Pretended(others={9: np.ones_like})
    with pytest.raises(IndexError):  # another has failed, and here the pretended others say nothing of it
        together(comm, lambda: 7)

    def fail() -> None:
        raise JobError("no room")

    with pytest.raises(JobError, match=r"^no room$"):
        together(Pretended(), fail)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 900, 1012, 1013, 1014, 1015, 5000])
def test_a_value_from_rank_0_is_one_message_unless_it_is_long(n: int) -> None:
    root: Any = Pretended(0)
    value = {"text": "x" * n}
    assert at_root(root, lambda: value) == value
    other: Any = Pretended(3)
    other.root = [values.copy() for values in root.root]
    assert bcast(other, None) == [[value], None]
    length = len(msgpack.packb([[value], None]))
    assert len(root.calls) == len(other.calls) == (1 if length <= 1024 - HEAD else 2)
    assert sum(n_bytes for _, n_bytes in root.calls) <= max(1024, length + HEAD)


def test_nodes_are_counted_once() -> None:
    leaders = [rank // 32 * 32 for rank in range(SIZE)]
    assert divided(leaders, 32) == leaders
    assert divided(leaders, 100) == leaders
    assert divided(leaders, 5)[:12] == [0] * 5 + [5] * 5 + [10] * 2
    assert divided([0, 1, 0, 1, 0, 1], 2) == [0, 1, 0, 1, 4, 5]

    class Counted(list[int]):
        def count(self, value: Any, /) -> int:
            raise AssertionError("each of them looks at all")

    assert odd_ranks(Counted([3] * (SIZE - 1) + [4])) == [SIZE - 1]


def test_processes_of_a_node_are_looked_through_once() -> None:
    """Ranks below a launcher, each with its guard."""
    looked = 0

    class Table(dict[int, Process]):
        def values(self) -> Any:
            nonlocal looked
            looked += 1
            return super().values()

    table = Table()
    for rank in range(SIZE):
        for pid, parent in ((10 + rank, 1), (10_000 + rank, 10 + rank)):
            table[pid] = Process(pid, f"{pid} (python) S {parent} {' '.join('0' * 40)}")
    children = by_parent(table)
    trees = [[top, *below(children, top.pid)] for top in children[1]]
    assert looked == 1
    assert [[process.pid for process in tree] for tree in trees] == [[10 + r, 10_000 + r] for r in range(SIZE)]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 12, 13])
def test_medians_of_the_others(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 6, n).astype(float)
    expected = [np.median(np.delete(values, i)) for i in range(n)]
    np.testing.assert_array_equal(straggler.without_each(values), expected)


def test_few_of_many_ranks_are_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes the others' times; times here vary by half, as on busy nodes."""
    rng, looked, close = np.random.default_rng(0), list[int](), straggler.slowness

    def slowness(busy_s: np.ndarray, rows: np.ndarray, rank: int, own_s: float) -> tuple[float, float, float]:
        looked.append(rank)
        return close(busy_s, rows, rank, own_s)

    monkeypatch.setattr(straggler, "slowness", slowness)
    busy, rows, least = 1 + rng.random(SIZE) / 2, np.full(SIZE, 64.0), np.full(SIZE, 1.5)
    busy[[7, 900]] = 3.0, 4.0
    rows[9], busy[9] = 128, 2.4  # longer, for it has more rows
    found = straggler.outliers(busy, rows, busy, least, 0.05)
    assert list(found) == looked == [7, 900]
