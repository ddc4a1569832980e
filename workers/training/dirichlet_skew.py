"""Which rows ranks get if each has labels in shares of its own: from a Dirichlet distribution, as in Hsu et al. 2019.

arXiv 1909.06335: the smaller ``alpha``, the fewer labels a rank sees; 0.3 is skewed, 100 is hardly.
"""

import numpy as np

from common.data.scaling import Rows
from common.data.shards import SHARDS, shard_starts
from common.flat import Array
from common.rng import Stream, generator

GROUPS = 10
"""Of equally many rows, in place of labels where the target is numbers."""


def order(target: Array, n_ranks: int, alpha: float, seed: int) -> Rows:
    """Return the rows in an order in which each rank's fixed shards have their own shares of labels, (n,).

    ``target``: a number a row, (n,). Each row comes once; where a label is used up, the other labels take its place.
    """
    n, rng = len(target), generator(seed, Stream.SKEW)
    values, label = np.unique(target, return_inverse=True)
    if len(values) > min(SHARDS, n):
        label = np.argsort(np.argsort(target, kind="stable"), kind="stable") * GROUPS // n
    left = [rng.permutation(np.flatnonzero(label == one)).tolist() for one in range(int(label.max()) + 1)]
    starts = [int(shard_starts(n)[SHARDS * rank // n_ranks]) for rank in range(min(n_ranks, SHARDS))] + [n]
    found: list[int] = []
    for end in starts[1:]:
        shares, own = rng.dirichlet(np.full(len(left), alpha)), list[int]()
        while missing := end - len(found) - len(own):
            available = np.array([len(rows) for rows in left])
            wanted = shares * (available > 0)
            wanted = wanted if wanted.sum() > 0 else available.astype(float)
            for rows, k in zip(left, rng.multinomial(missing, wanted / wanted.sum()).tolist(), strict=True):
                own += [rows.pop() for _ in range(min(k, len(rows)))]
        found += rng.permutation(own).tolist()
    return np.array(found, dtype=np.int64)
