"""On every rank: each wire sums to the very bits of a plain loop over the ranks, and loses nothing that it may not."""

import functools
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import WIRES, RunConfig
from common.data.row_table import RowTable
from common.data.sampler import RowSampler
from common.flat import N_SLOTS, Array
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync import wires
from ps.sync.replicated import ReplicatedSync
from ps.sync.training_state import ERROR
from ps.sync.wires import low_rank
from ps.sync.wires.error_buffer import ErrorBuffer
from ps.sync.wires.low_rank import LowRank
from ps.sync.wires.packet_wire import PacketWire, WireSetup
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
rank, size = comm.rank, comm.size
LENGTHS = (1, 2, 1023, 1025, 9001)
"""Fewer numbers than ranks; less and more than a block of int8."""
KEEP = 0.03
RANK = 3


class Counting:
    """A communicator that counts what is sent."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(comm, name)

    def _count(self, buffer: Array, to: int) -> None:
        self.sent[to] = self.sent.get(to, 0) + buffer.nbytes

    def Sendrecv(self, buffer: Array, to: int, *rest: Any) -> None:  # noqa: N802
        self._count(buffer, to)
        comm.Sendrecv(buffer, to, *rest)

    def Isend(self, buffer: Array, to: int, tag: int) -> MPI.Request:  # noqa: N802
        self._count(buffer, to)
        return comm.Isend(buffer, to, tag)


def make(name: str, n: int, dtype: str) -> PacketWire:
    config, counting = RunConfig(mode="ring", wire=name, dtype=dtype, wire_keep=KEEP, wire_rank=RANK), Counting()
    setup = WireSetup(counting, np.zeros(N_SLOTS + n, dtype), shapes(n), config)  # type: ignore[arg-type]
    wire: PacketWire = wires.find(name)(setup)
    return wire


def shapes(n: int) -> dict[str, tuple[int, ...]]:
    """Return a matrix that PowerSGD compresses, if so many numbers have room for one, and the rest as a vector."""
    matrix = {"W": (40, 40)} if n >= 1600 else {}
    return {"a": (n % 7,), **matrix, "b": (n - n % 7 - 1600 * len(matrix),)}


def packets(n: int, dtype: str, step: int) -> list[Array]:
    """Return all ranks' packets of a step: slots of whole numbers, which a coding to 8 bits would change."""
    found = []
    for other in range(size):
        numbers = np.random.default_rng([step, other]).standard_normal(N_SLOTS + n)
        numbers[:N_SLOTS] = 1001 * np.arange(N_SLOTS) + other
        numbers[N_SLOTS::3] *= 1e-5
        found.append(numbers.astype(dtype))
    return found


def cut(n: int, unit: int = 1) -> list[slice]:
    units = -(-n // unit)
    return [slice(units * i // size * unit, units * (i + 1) // size * unit) for i in range(size)]


def around(vectors: list[Array]) -> Array:
    total = np.empty_like(vectors[0])
    for c, where in enumerate(cut(len(total))):
        part = vectors[c][where]
        for other in range(c + 1, c + size):
            part = part + vectors[other % size][where]
        total[where] = part
    return total


def bf16(x: Array) -> Array:
    """Round to 8 binary digits by arithmetic: of normal numbers, to nearest, ties to even."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    rounded = np.ldexp(np.rint(fraction * 256), exponent - 8)
    return np.asarray(rounded, np.float32)


def int8(x: Array) -> Array:
    out = np.empty_like(x, np.float32)
    for a in range(0, len(x), 1024):
        block = x[a : a + 1024].astype(np.float32)
        scale = np.abs(block).max() / np.float32(127)
        out[a : a + 1024] = np.rint(block / scale) * scale if scale else 0
    return out


def coded(vectors: list[Array], code: Any, unit: int) -> Array:
    total = np.empty(len(vectors[0]), np.float32)
    for owner, where in enumerate(cut(len(total), unit)):
        parts = [v[where].astype(np.float32) for v in vectors]
        added = np.zeros_like(parts[0])
        for other, part in enumerate(parts):
            added = added + (part if other == owner else code(part))
        total[where] = code(added)
    return total


class Sparse:
    """Top-k with the errors of all ranks in one place."""

    def __init__(self, n: int, dtype: str) -> None:
        self.errors = [np.zeros(n, dtype) for _ in range(size)]
        self.k = max(1, int(np.ceil(KEEP * n)))

    def sum(self, vectors: list[Array]) -> Array:
        total = np.zeros_like(vectors[0])
        for i, own in enumerate(vectors):
            c = own + self.errors[i]
            sent = np.zeros_like(c)
            largest = np.argsort(-np.abs(c), kind="stable")[: self.k]
            sent[largest] = c[largest]
            total = total + sent
            c[largest] = 0
            self.errors[i] = c
        return total


class InFactors:
    """PowerSGD with the arithmetic of all ranks in one place; its two sums are in rank order."""

    def __init__(self, n: int, dtype: str) -> None:
        self.packets = [np.zeros(N_SLOTS + n, dtype) for _ in range(size)]
        errors = [ErrorBuffer(n, np.dtype(dtype)) for _ in range(size)]
        self.ranks = [
            LowRank(p, shapes(n), e, RANK, RunConfig().seed) for p, e in zip(self.packets, errors, strict=True)
        ]

    def sum(self, vectors: list[Array]) -> Array:
        for packet, vector in zip(self.packets, vectors, strict=True):
            packet[N_SLOTS:] = vector
        for act, exchanged in (("first", "factors"), ("second", "right_factors")):
            for one in self.ranks:
                getattr(one, act)()
            total = functools.reduce(np.add, [getattr(one, exchanged) for one in self.ranks])
            for one in self.ranks:
                getattr(one, exchanged)[:] = total
        for one in self.ranks:
            one.finish()
            one.accept()
        return self.packets[0][N_SLOTS:]


def check_bits(name: str, n: int, dtype: str) -> None:
    """Three steps against the plain loop; status slots exact, all ranks alike, and as many bytes as are said."""
    wire, sparse, factors = make(name, n, dtype), Sparse(n, dtype), InFactors(n, dtype)
    for step in range(3):
        every = packets(n, dtype, step)
        wire.packet[:] = every[rank]
        sent: dict[int, int] = wire.comm.sent  # type: ignore[attr-defined]
        sent.clear()
        wire.sum()
        wire.accept()
        assert sent == wire.sent_to, (name, n, sent, wire.sent_to)
        if name == "float32":
            np.testing.assert_array_equal(wire.packet, around(every), err_msg=f"{n} {dtype}")
        else:
            numbers = [packet[N_SLOTS:] for packet in every]
            expected = (
                numbers[0] if size == 1 else
                sparse.sum(numbers) if name == "topk" else
                factors.sum(numbers) if name == "powersgd" else
                coded(numbers, bf16, 1) if name == "bf16" else coded(numbers, int8, 1024)
            )  # fmt: skip
            np.testing.assert_array_equal(wire.numbers, expected, err_msg=f"{name} {n} {dtype}")
        np.testing.assert_array_equal(wire.status, sum(packet[:N_SLOTS] for packet in every))
    wire.close()


def check_errors(name: str, dtype: str) -> None:
    """Sent and unsent make up all gradients; a step that is not accepted, and an exact sum, leave the error alone."""
    wire, n = make(name, 5000, dtype), 5000
    assert wire.error is not None
    given, applied = np.zeros(n), np.zeros(n)
    for step in range(6):
        every = packets(n, dtype, step)
        before = wire.error.now.copy()
        wire.packet[:] = every[rank]
        if step == 2:
            wire.sum()
            np.testing.assert_array_equal(wire.error.now, before)
            continue
        if step == 4:
            wire.exact.sum()
            np.testing.assert_array_equal(wire.packet, around(every))
            np.testing.assert_array_equal(wire.error.now, before)
            wire.packet[:] = every[rank]
        wire.sum()
        wire.accept()
        given += sum(packet[N_SLOTS:].astype(np.float64) for packet in every)
        applied += wire.numbers
    left = np.zeros(n, dtype) if rank == 0 else None
    wire.error.total(comm, left)
    if left is not None:
        assert size == 1 or np.count_nonzero(left) > (1500 if name == "powersgd" else n // 2)
        np.testing.assert_allclose(applied + left, given, rtol=1e-4, atol=1e-5 if dtype == "float32" else 1e-12)
    everyone = np.zeros(n, dtype)
    other = make(name, n, dtype)
    assert other.error is not None
    other.error.deal(comm, left)
    np.testing.assert_array_equal(other.error.now, comm.bcast(left) / size)
    other.error.total(comm, everyone if rank == 0 else None)
    if left is not None:
        np.testing.assert_allclose(everyone, left, rtol=1e-6)
    other.error.deal(comm, None)
    assert not other.error.now.any()
    for one in (wire, other):
        one.close()


def check_not_finite(name: str, value: float, dtype: str) -> None:
    """What is not finite on the last rank alone is seen on all ranks; after such steps training goes on as before."""
    wire, n = make(name, 3000, dtype), 3000
    good = packets(n, dtype, 0)
    for place in (0, 1500, n - 1):
        wire.packet[:] = good[rank]
        if rank == size - 1:
            wire.numbers[place] = value
        wire.sum()
        assert not np.isfinite(wire.numbers).all(), (name, value, place)
        assert np.isfinite(wire.status).all()
    if wire.error is not None:
        assert not wire.error.now.any()
    wire.packet[:] = good[rank]
    wire.sum()
    assert np.isfinite(wire.packet).all()
    wire.close()


def check_state(per_node: int) -> None:
    """What ranks have not sent is saved as one sum, which any number of ranks takes up; elastic ones keep theirs."""
    x, y = np.random.default_rng(1).standard_normal((97, 7)), np.arange(97) % 3
    x[:, -1] = 1
    config = RunConfig(mode="ring", wire="topk", wire_keep=KEEP, dtype="float64", batch_size=20)
    model = Mlp((6, 20, 3), "relu", SoftmaxCrossEntropy())
    topology = Topology(comm, per_node)
    sync, loader, _ = assemble("ring", topology, model, config, x, y, 3)
    error = sync.state.error
    assert error is not None
    for step, batch in enumerate(loader.epoch(1)):
        before = error.now.copy()
        sync.step(batch, sync.backward(batch, 0.1, sample=step == 2), stop=False, sample=step == 2)
        assert size == 1 or not len(before) or (error.now != before).any()
    unsent = np.zeros(error.n)
    comm.Allreduce(error.now if len(error.now) else np.zeros(error.n), unsent)
    has_wire = topology.count == 1 or rank == topology.leaders[rank]  # or each rank has one
    assert len(error.now) == (error.n if has_wire or not per_node else 0)
    saved = sync.state.capture()
    assert (saved is None) == (rank > 0)
    if saved is not None:
        np.testing.assert_allclose(saved.vectors[ERROR], unsent, rtol=1e-12)
    fewer: Any = comm.Split(0 if rank < max(1, size - 1) else 1, rank)
    if rank < max(1, size - 1):
        others = Topology(fewer)
        again, _, _ = assemble("ring", others, model, config, x, y, 3)
        again.state.load(saved)
        assert again.state.error is not None
        np.testing.assert_allclose(again.state.error.now, unsent / fewer.size, rtol=1e-12)
        assert isinstance(again, ReplicatedSync)
        again.rebind(others, RowTable.of(RowSampler(len(x), 20, 0, "shuffle", fewer.size)))
        np.testing.assert_allclose(again.state.error.now, unsent / fewer.size, rtol=1e-12)
        again.close()
        others.close()
    fewer.Free()
    sync.close()
    topology.close()


def check_full_rank(per_node: int) -> None:
    """Factors of full rank carry everything, so training ends with the parameters of exact sums."""
    low_rank.SAVING = 0
    x, y = np.random.default_rng(2).standard_normal((97, 13)), np.arange(97) % 3
    x[:, -1] = 1
    model, topology, ends = Mlp((12, 20, 3), "tanh", SoftmaxCrossEntropy()), Topology(comm, per_node), []
    for wire in ("float32", "powersgd"):
        config = RunConfig(mode="ring", wire=wire, wire_rank=64, dtype="float64", batch_size=10, optimizer="momentum")
        sync, loader, _ = assemble("ring", topology, model, config, x, y, 3)
        for step, batch in enumerate(loader.epoch(1)):
            sync.step(batch, sync.backward(batch, 0.1, sample=step == 4), stop=False, sample=step == 4)
        ends.append(sync.flat.param_vector.copy())
        sync.close()
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-10, atol=1e-13)
    topology.close()


def main() -> None:
    np.seterr(all="ignore")
    for name in WIRES:
        for dtype in ("float32", "float64"):
            for n in LENGTHS:
                check_bits(name, n, dtype)
            for value in (np.nan, np.inf, -np.inf):
                check_not_finite(name, value, dtype)
    for dtype in ("float32", "float64"):
        check_errors("topk", dtype)
        check_errors("powersgd", dtype)
    check_state(0)
    check_state(2)
    check_full_rank(0)
    check_full_rank(2)
    if rank == 0:
        print("ok", size)


main()
