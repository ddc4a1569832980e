"""Compares rules for the scale of a column: ``python -m tests.benchmarks.column_scales [MNIST.npz]``.

The file holds X, y, X_test, y_test. A small network is trained by scikit-learn on features that each rule scales: on
MNIST, whose border pixels hardly ever vary, and on columns with heavy tails beside noise.
"""

import itertools
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from common.flat import Array

SEEDS, ROWS = (0, 1), 12_000
SHARES = (0.03, 0.01, 0.0025)


def scales(x: Array) -> dict[str, tuple[Array, Array]]:
    """Return mean and scale of each column of training rows by rule."""
    mean, deviation, n = x.mean(axis=0), x.std(axis=0), len(x)
    usual = np.median(x, axis=0)
    other = (x != usual).sum(axis=0)
    of_other = np.sqrt(np.square(x - usual).sum(axis=0) / np.maximum(other, 1))
    found = {"deviation": deviation, "at least (max - min) / 20": np.maximum(deviation, np.ptp(x, axis=0) / 20)}
    for share in SHARES:
        least = np.where(other < share * n, of_other * np.sqrt(share * (1 - share)), 0)
        found[f"as if {share:.2%} were unusual"] = np.maximum(deviation, least)
    return {name: (mean, np.where(deviation > 0, scale, 1.0)) for name, scale in found.items()}


def heavy_tails(rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Yield columns by name."""
    n = ROWS
    yield "lognormal, sigma 2", np.exp(2 * rng.standard_normal(n))
    yield "Student's t, 1.5 degrees", rng.standard_t(1.5, n)
    yield "Pareto, shape 1", rng.pareto(1, n)
    yield "normal, 3 rows 10,000 times as large", np.where(np.arange(n) % 4000 == 7, 1e4, 1) * rng.standard_normal(n)
    yield "99.5 % zeros, else Pareto", np.where(rng.random(n) < 0.005, 1 + rng.pareto(1.5, n), 0)
    yield "92 % zeros, else lognormal", np.where(rng.random(n) < 0.08, np.exp(8 + rng.standard_normal(n)), 0)


def of_tails() -> Iterator[str]:
    """Yield R2 on test rows of a target that depends on the column's rank and logarithm, and noise."""
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(5)
    for name, column in heavy_tails(rng):
        rank = column.argsort().argsort() / ROWS
        signal = np.where(column != 0, np.sin(4 * rank) + np.sign(column) * np.log1p(np.abs(column)) / 2, 0)
        noise = rng.standard_normal((ROWS, 4))
        y, x = (signal - signal.mean()) / signal.std() + noise[:, 0] / 2, np.column_stack([column, noise])
        train, test = np.split(rng.permutation(ROWS), [ROWS * 3 // 4])
        for rule, (mean, scale) in scales(x[train]).items():
            scaled = (x - mean) / scale
            fits = (
                MLPRegressor(
                    hidden_layer_sizes=(64,), batch_size=64, learning_rate_init=0.002, max_iter=15, random_state=seed
                )
                for seed in SEEDS
            )
            r2 = np.mean([fit.fit(scaled[train], y[train]).score(scaled[test], y[test]) for fit in fits])
            yield f"{name}: {rule}: R2 {r2:.3f}, largest {np.abs(scaled[train, 0]).max():.1f}"


def of_mnist(path: str) -> Iterator[str]:
    """Yield accuracy on test rows, the mean over the first three epochs."""
    from sklearn.neural_network import MLPClassifier

    with np.load(path) as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("X", "y", "X_test", "y_test"))
    whole = np.full(x.shape[1], x.mean()), np.full(x.shape[1], x.std())
    for rule, (mean, scale) in {**scales(x.astype(np.float64)), "one scale for all": whole}.items():
        some, other = (((rows - mean) / scale).astype(np.float32) for rows in (x, x_test))
        accuracies = []
        for seed in SEEDS:
            fit = MLPClassifier(hidden_layer_sizes=(256,), batch_size=64, learning_rate_init=0.002, random_state=seed)
            for _ in range(3):
                fit.partial_fit(some, y, classes=np.unique(y))
                accuracies.append(fit.score(other, y_test))
        yield f"MNIST: {rule}: accuracy {np.mean(accuracies):.2%} over three epochs"


def main() -> None:
    """Print a line for each column and rule."""
    warnings.filterwarnings("ignore")  # it is not to converge
    for line in itertools.chain(*map(of_mnist, sys.argv[1:2]), of_tails()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
