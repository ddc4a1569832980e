"""Asks whether ranks that were given rows in many ways are told apart; to be started with mpirun."""

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from ps.findings.targets_differ import chow_test
from ps.findings.verdict import Verdict

Floats = NDArray[np.float64]
comm = MPI.COMM_WORLD
FEATURES, DIGITS = 5, np.random.default_rng(5)
KINDS: dict[str, Callable[[int], Floats]] = {
    "normal": lambda n: DIGITS.standard_normal((n, FEATURES)),
    "uniform": lambda n: DIGITS.random((n, FEATURES)),
    "yes or no": lambda n: (DIGITS.random((n, FEATURES)) < 0.3).astype(float),
    "heavy tails": lambda n: np.exp(DIGITS.standard_normal((n, FEATURES))),
}


def said(parts: list[Floats], targets: list[Floats]) -> bool:
    found = chow_test(
        comm, parts[comm.rank], targets[comm.rank][:, None], np.zeros(1), np.ones(1), len(parts[comm.rank])
    )
    return isinstance(found, Verdict) and "do not follow one linear relation" in found.text


for name, draw in KINDS.items():
    for n in (100 * comm.size, 1000 * comm.size):
        x, w = draw(n), DIGITS.standard_normal(FEATURES)
        deviation = float((x @ w).std())
        for noise in (0.1, 1.0, *([2.0] if n > 200 * comm.size else [])):
            y = x @ w + noise * deviation * DIGITS.standard_normal(n)
            for order in (np.argsort(y), np.argsort(-y), np.argsort(x[:, 0]), np.arange(n)):
                split = [np.array_split(values[order], comm.size) for values in (x, y)]
                assert not said(*split), f"{name}, {n} rows, noise {noise}: one relation, and two were seen"
        parts = np.array_split(x, comm.size)
        error = [0.3 * deviation * DIGITS.standard_normal(len(part)) for part in parts]
        for what, targets in {
            "weights": [part @ DIGITS.standard_normal(FEATURES) for part in parts],
            "offset": [part @ w + 3 * rank * deviation for rank, part in enumerate(parts)],
            "far offset": [part @ w + 20 * rank * deviation for rank, part in enumerate(parts)],
            "units": [(part @ w + 4 * deviation) * 10.0**rank for rank, part in enumerate(parts)],
        }.items():
            given = [target + e for target, e in zip(targets, error, strict=True)]
            assert said(parts, given), f"{name}, {n} rows: other {what} were not seen"
            turned = [t[np.argsort(t)] for t in given], [p[np.argsort(t)] for p, t in zip(parts, given, strict=True)]
            assert said(turned[1], turned[0]), f"{name}, {n} rows: other {what}, sorted within the ranks"
if comm.rank == 0:
    print("ok")
