"""PowerSGD: what is summed, what is kept as an error, and that all ranks get the same bits."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from common.flat import N_SLOTS, Array, Flat
from ps.sync.wires import low_rank
from ps.sync.wires.error_buffer import ErrorBuffer
from ps.sync.wires.fixed_order import Orthonormaliser
from ps.sync.wires.low_rank import LowRank, compresses

SHAPES = {"W0": (40, 24), "b0": (24,), "W1": (24, 30), "b1": (30,), "W2": (30, 3), "b2": (3,)}
"""Two matrices that rank 2 compresses, one that it does not, and biases."""


class Ranks:
    """PowerSGD on several ranks in this process; sums in rank order."""

    def __init__(self, n: int, rank: int, dtype: str = "float64") -> None:
        self.flats = [Flat(SHAPES, np.dtype(dtype)) for _ in range(n)]
        self.buffers = [ErrorBuffer(flat.n, flat.dtype) for flat in self.flats]
        pairs = zip(self.flats, self.buffers, strict=True)
        self.wires = [LowRank(flat.packet, SHAPES, buffer, rank, 5) for flat, buffer in pairs]

    @property
    def errors(self) -> list[Array]:
        """Return each rank's error, (n,)."""
        return [buffer.now for buffer in self.buffers]

    def step(self, gradients: Sequence[Array], *, accept: bool = True) -> Array:
        """Sum gradients, (n,) of each rank; return the sum, which must be the same on all."""
        for rank, (flat, gradient) in enumerate(zip(self.flats, gradients, strict=True)):
            flat.grad_vector[:] = gradient
            flat.packet[:N_SLOTS] = rank + 1
        for wire in self.wires:
            wire.first()
        _sum([wire.factors for wire in self.wires])
        for wire in self.wires:
            wire.second()
        _sum([wire.right_factors for wire in self.wires])
        for wire in self.wires:
            wire.finish()
            if accept:
                wire.accept()
        first = self.flats[0].packet.copy()
        for flat, wire in zip(self.flats, self.wires, strict=True):
            assert np.array_equal(flat.packet, first, equal_nan=True)
            assert np.array_equal(wire.right_factors, self.wires[0].right_factors, equal_nan=True)
            assert wire.drawn == self.wires[0].drawn
        assert set(first[:N_SLOTS]) == {sum(range(1, len(self.wires) + 1))}  # the status is exact
        return first[N_SLOTS:]


def _sum(vectors: Sequence[Array]) -> None:
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total += vector
    for vector in vectors:
        vector[:] = total


def gradients(n: int, rng: np.random.Generator, rows: int = 5) -> list[Array]:
    """Return a gradient of each rank, of the rank that so many rows give its matrices."""
    found = []
    for _ in range(n):
        flat = Flat(SHAPES, np.dtype("float64"))
        for name, (a, *b) in SHAPES.items():
            product = rng.standard_normal((a, rows)) @ rng.standard_normal((rows, *b))
            flat.grads[name][...] = product
        found.append(flat.grad_vector)
    return found


def test_only_what_gets_smaller_by_half_is_compressed() -> None:
    assert compresses((784, 512), 4)
    assert compresses((512, 10), 4)
    assert not compresses((512, 10), 5)
    assert not compresses((512,), 1)
    assert Ranks(1, 2).wires[0].compressed == ("W0", "W1")


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_full_rank_is_the_sum(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where gradients have less than full rank, and are others in each step."""
    monkeypatch.setattr(low_rank, "SAVING", 0)
    rng, ranks = np.random.default_rng(1), Ranks(n, 40)
    assert ranks.wires[0].compressed == ("W0", "W1", "W2")
    for _ in range(6):
        given = gradients(n, rng)
        np.testing.assert_allclose(ranks.step(given), sum(given), rtol=1e-10, atol=1e-12)


def test_errors_and_what_was_sent_are_the_gradients() -> None:
    rng, ranks = np.random.default_rng(2), Ranks(3, 2)
    sent, given = (np.zeros(ranks.flats[0].n) for _ in range(2))
    for _ in range(9):
        own = gradients(3, rng, rows=20)
        given += sum(own)
        sent += ranks.step(own)
    left = sum(ranks.errors)
    assert np.linalg.norm(left) > 0.1 * np.linalg.norm(given)  # rank 2 of 20 leaves much
    np.testing.assert_allclose(sent + left, given, rtol=1e-10, atol=1e-10)
    plain = [ranks.flats[0].slices[name] for name in ("b0", "b1", "W2", "b2")]
    assert not any(error[where].any() for error in ranks.errors for where in plain)


def test_what_another_wire_left_of_parameters_that_travel_whole_is_sent_once() -> None:
    """As after resuming a run of ``topk``, or of a lower rank that compressed more matrices."""
    rng, ranks = np.random.default_rng(8), Ranks(3, 2)
    left, given = gradients(3, rng), [gradients(3, rng) for _ in range(3)]
    for error, own in zip(ranks.errors, left, strict=True):
        error[:] = own
    ranks.step(given[0], accept=False)
    sent = [ranks.step(own) for own in given]
    expected = [np.sum(own, axis=0) for own in given]
    expected[0] += np.sum(left, axis=0)
    for name in ("b0", "b1", "W2", "b2"):
        where = ranks.flats[0].slices[name]
        for one, other in zip(sent, expected, strict=True):
            np.testing.assert_allclose(one[where], other[where], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(sum(sent) + sum(ranks.errors), sum(expected), rtol=1e-10, atol=1e-10)


def test_the_warm_start_finds_the_best_factors_of_a_repeated_gradient() -> None:
    """Power iteration: what is left comes to what the singular values beyond the rank are."""
    rng, ranks = np.random.default_rng(3), Ranks(2, 4)
    own = gradients(2, rng, rows=6)
    where = ranks.flats[0].slices["W0"]
    whole = np.sum(own, axis=0)[where].reshape(SHAPES["W0"])
    best = math.sqrt(sum(np.linalg.svd(whole, compute_uv=False)[4:] ** 2))
    left = []
    for _ in range(12):
        left.append(np.linalg.norm(ranks.step(own)[where] - whole.ravel()))
        for error in ranks.errors:
            error[:] = 0
    assert left[0] > 1.2 * best
    assert left[-1] == pytest.approx(best, rel=0.01)


def test_columns_that_a_zero_gradient_has_killed_are_drawn_anew() -> None:
    rng, ranks = np.random.default_rng(4), Ranks(2, 2)
    ranks.step([np.zeros(ranks.flats[0].n)] * 2)
    assert ranks.wires[0].drawn == 4 + 2 * 4  # at first Q of two matrices, then all their columns
    own = gradients(2, rng, rows=1)
    sent = ranks.step(own) + ranks.step([np.zeros_like(own[0])] * 2)
    assert np.linalg.norm(sum(own) - sent) < 1e-8 * np.linalg.norm(sum(own))


def test_a_matrix_of_less_rank_than_the_factors_stays_exact() -> None:
    """One column of Q dies in each step, and none of its draws spoils what the others carry."""
    rng, ranks = np.random.default_rng(5), Ranks(1, 2, "float32")
    for _ in range(20):
        (own,) = gradients(1, rng, rows=1)
        found = ranks.step([own])
        assert np.linalg.norm(found - own) < 1e-5 * np.linalg.norm(own)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["W0", "b0", "W2"])
def test_what_is_not_finite_is_seen_on_all_ranks_in_the_same_step(value: float, name: str) -> None:
    ranks = Ranks(3, 2)
    own = gradients(3, np.random.default_rng(6))
    where = ranks.flats[1].slices[name]
    own[1][where.stop - 1] = value
    with np.errstate(all="ignore"):
        found = ranks.step(own)  # which looks whether all have the same
    assert not np.isfinite(found[where]).all()


def test_a_step_that_does_not_count_leaves_no_trace() -> None:
    rng, ranks, other = np.random.default_rng(10), Ranks(2, 2), Ranks(2, 2)
    first, wrong, second = (gradients(2, rng, rows=20) for _ in range(3))
    ranks.step(first)
    other.step(first)
    wrong[0][3] = np.nan
    with np.errstate(all="ignore"):
        other.step(wrong, accept=False)
    assert np.array_equal(ranks.step(second), other.step(second))


def test_rows_become_orthonormal_however_near_to_each_other() -> None:
    rng = np.random.default_rng(7)
    base = rng.standard_normal(130)
    rows = np.stack([base, base + 1e-9 * rng.standard_normal(130), np.zeros(130), 1e200 * base, 1e-200 * base])
    with np.errstate(all="ignore"):
        drawn = Orthonormaliser(5, 130)(rows, rng.standard_normal)
    assert drawn == 3
    np.testing.assert_allclose(rows @ rows.T, np.eye(5), atol=1e-14)


def test_more_rows_than_numbers_end_as_zeros() -> None:
    rows = np.ones((3, 2))
    assert Orthonormaliser(3, 2)(rows, np.random.default_rng(8).random) == 2
    np.testing.assert_allclose(rows @ rows.T, np.diag([1.0, 1.0, 0.0]), atol=1e-14)


def test_the_same_bits_as_sums_one_by_one() -> None:
    """The order of additions is ours: no kernel of NumPy or BLAS that another processor would replace decides it."""
    rng = np.random.default_rng(9)
    for row in rng.standard_normal((20, 1000)):
        rows, lanes = row[None].copy(), [0.0] * 64
        Orthonormaliser(1, 1000)(rows, rng.random)
        for k, value in enumerate(row.tolist()):
            lanes[k % 64] += value * value
        assert np.array_equal(rows[0], row / math.sqrt(math.fsum(lanes)))
