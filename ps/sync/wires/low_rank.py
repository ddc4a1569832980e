"""Gradients of matrices as two narrow factors, and what these leave out: the arithmetic of PowerSGD, without MPI.

Vogels, Karimireddy & Jaggi, NeurIPS 2019 (arXiv 1905.13727), algorithms 1 and 2, for sums instead of means.
"""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from common.flat import N_SLOTS, Array, Flat
from common.rng import Stream, generator
from ps.sync.wires.error_buffer import ErrorBuffer
from ps.sync.wires.fixed_order import Orthonormaliser, outer_product, product_blocks

SAVING = 2
"""A matrix is compressed if it has more than so many times the numbers of its factors."""


def compresses(shape: tuple[int, ...], rank: int) -> bool:
    """Say whether a parameter of this shape travels as factors of this rank."""
    return len(shape) == 2 and shape[0] * shape[1] > SAVING * rank * (shape[0] + shape[1])


class _Matrix:
    """A compressed gradient (n, m), and its factors of r columns, transposed; r is the rank, or min(n, m) if less.

    ``errors``: this rank's from the last step and for the next one, in turn. ``left``: P^T (r, n), ``right``: the sum
    of Q^T (r, m); these and ``grad`` are views of what is exchanged. ``own``: this rank's part of ``right``; ``basis``:
    orthonormal rows, the right factor that the next step starts from.
    """

    def __init__(self, grad: Array, errors: tuple[Array, Array], left: Array, right: Array) -> None:
        self.grad, self.errors, self.left, self.right = grad, errors, left, right
        self.own, self.basis = np.empty_like(right), np.zeros_like(right)
        self.blocks = product_blocks(*grad.shape)


class LowRank:
    """Sums the gradients in a packet over the ranks by two small sums, which the caller takes.

    In a step: ``first``; sum ``factors`` over the ranks; ``second``; sum ``right_factors``; ``finish``; and ``accept``
    if the step is to count. With M_i the gradient of rank i and its error e_i, and Q with orthonormal columns from the
    last step that counted: P = orthonormal(sum M_i Q), Q_i = M_i^T P, Q = sum Q_i, G = P Q^T, e_i = M_i - P Q_i^T.

    So the errors of all ranks add up to what G lacks, and each is a part of its rank's M_i. (Of the other way to write
    algorithm 2, e_i = M_i minus a share of G, the sum is the same, but what ranks differ in would add up for ever.)
    G takes the gradient's place, with the same bits on all ranks if both sums have the same. Columns that carry
    nothing, since rows or columns of all gradients were zero, are drawn anew.

    ``factors``: status slots, what is not compressed, and all P; ``right_factors``: all Q.
    """

    def __init__(
        self,
        packet: Array,
        shapes: Mapping[str, tuple[int, ...]],
        error: ErrorBuffer,
        rank: int,
        seed: int,
    ) -> None:
        """``packet``: (16 + n,), with the gradients of these ``shapes``; ``seed``: of all draws."""
        compressed = {name: shape for name, shape in shapes.items() if compresses(shape, rank)}
        self.compressed = tuple(compressed)
        layout, dtype = Flat.layout(shapes), packet.dtype
        ranks = [min(rank, *shape) for shape in compressed.values()]
        lefts, rights = ([(r, s[k]) for r, s in zip(ranks, compressed.values(), strict=True)] for k in (0, 1))
        rest = _others(len(packet) - N_SLOTS, [layout[name] for name in compressed])
        plain = [packet[:N_SLOTS], *(packet[N_SLOTS:][where] for where in rest)]
        n_plain = sum(map(len, plain))
        self.factors = np.empty(n_plain + _size(lefts), dtype)
        self.right_factors = np.empty(_size(rights), dtype)
        starts = itertools.accumulate(map(len, plain), initial=0)
        self._plain = [(part, self.factors[at : at + len(part)]) for part, at in zip(plain, starts, strict=False)]
        self._owed = [
            (place, (error.now[s], error.next[s])) for s, (_, place) in zip(rest, self._plain[1:], strict=True)
        ]
        views = zip(
            *(
                [v[layout[m]].reshape(s) for m, s in compressed.items()]
                for v in (packet[N_SLOTS:], error.now, error.next)
            ),
            _views(self.factors[n_plain:], lefts),
            _views(self.right_factors, rights),
            strict=True,
        )
        self._matrices = [_Matrix(grad, (now, after), left, right) for grad, now, after, left, right in views]
        self._orthonormalise = Orthonormaliser(max(ranks, default=1), max(map(max, compressed.values()), default=1))
        self._scratch = np.empty(max((m.grad[m.blocks[0]].size for m in self._matrices), default=0), dtype)
        self._error, self._turn = error, 0
        self._seed, self.drawn = seed, 0
        for matrix in self._matrices:
            self._orthonormalise(matrix.basis, self._draw)

    def first(self) -> None:
        """Add the errors to the gradients, and write this rank's ``factors``."""
        for part, place in self._plain:
            np.copyto(place, part)
        for place, errors in self._owed:  # another wire, or another rank, may have left some of these
            np.add(place, errors[self._turn], out=place)
        for matrix in self._matrices:
            np.add(matrix.grad, matrix.errors[self._turn], out=matrix.grad)
            np.matmul(matrix.basis, matrix.grad.T, out=matrix.left)

    def second(self) -> None:
        """Take the sum of ``factors``, and write this rank's ``right_factors``."""
        for part, place in self._plain:
            np.copyto(part, place)
        for matrix in self._matrices:
            self._orthonormalise(matrix.left, self._draw)
            np.matmul(matrix.left, matrix.grad, out=matrix.own)
            np.copyto(matrix.right, matrix.own)

    def finish(self) -> None:
        """Take the sum of ``right_factors``: put G in the gradients' place, and what is left into ``error.next``."""
        for _, errors in self._owed:
            errors[1 - self._turn].fill(0)
        for matrix in self._matrices:
            rest = matrix.errors[1 - self._turn]
            np.matmul(matrix.left.T, matrix.own, out=rest)
            np.subtract(matrix.grad, rest, out=rest)
            for where in matrix.blocks:
                grad = matrix.grad[where]
                outer_product(matrix.left, matrix.right, where, grad, self._scratch[: grad.size].reshape(grad.shape))

    def accept(self) -> None:
        """Let the step count: go on from its errors and its Q."""
        self._error.accept()
        self._turn = 1 - self._turn
        for matrix in self._matrices:
            np.copyto(matrix.basis, matrix.right)
            self._orthonormalise(matrix.basis, self._draw)

    def _draw(self, n: int) -> Array:
        """Return (n,) numbers from -1 to 1: evenly spread, since these are exact, and normal ones take a logarithm."""
        self.drawn += 1
        return 2 * generator(self._seed, Stream.FACTORS, self.drawn).random(n) - 1


def _others(n: int, compressed: Iterable[slice]) -> list[slice]:
    """Return the ranges of n numbers, in their order, that together are all but these."""
    ends = [0, *(end for where in compressed for end in (where.start, where.stop)), n]
    return [slice(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True) if stop > start]


def _size(shapes: Iterable[tuple[int, int]]) -> int:
    return sum(a * b for a, b in shapes)


def _views(vector: Array, shapes: Iterable[tuple[int, int]]) -> list[Array]:
    """Return views of these shapes that lie one after the other."""
    stops = itertools.accumulate(a * b for a, b in shapes)
    return [vector[stop - a * b : stop].reshape(a, b) for (a, b), stop in zip(shapes, stops, strict=True)]
