"""Peers in our own environment: the tutorial loop, scikit-learn, matrix products alone, the MPI library's sum."""

import time
import warnings
from typing import Any

import numpy as np

from tests.benchmarks.work import SUMS, Array, Layers, Task, measure, nothing, time_sums

PEAK = 2048
"""Side of the square matrices whose product shows what the processor can do."""


class Loop:
    """The loop that tutorials on NumPy and mpi4py show: fresh arrays everywhere, one Allreduce for each of them."""

    def __init__(self, task: Task, comm: Any) -> None:
        self.comm, self.work = comm, task.work
        self.x, self.y = task.rows(comm.rank, comm.size) if comm else task.rows()
        if not self.work.linear:
            self.y = np.eye(self.work.sizes[-1], dtype=np.float32)[self.y]
        self.weights, self.biases = (list(each) for each in zip(*task.layers(), strict=True))

    def layers(self) -> Layers:
        """Return the parameters now."""
        return list(zip(self.weights, self.biases, strict=True))

    def average(self, grad: Array) -> Array:
        """Return the mean over the ranks."""
        if self.comm is None:
            return grad
        total = np.empty_like(grad)
        self.comm.Allreduce(grad, total)
        mean: Array = total / self.comm.size
        return mean

    def run(self, steps: int) -> None:
        """Take steps."""
        for k in range(steps):
            self.step(self.x[k % self.work.batches], self.y[k % self.work.batches])

    def step(self, x: Array, y: Array) -> None:
        """Forward, backward, average, update."""
        inputs, last = [x], len(self.weights) - 1
        for i, (w, b) in enumerate(self.layers()):
            z = inputs[-1] @ w + b
            inputs.append(z if i == last else np.maximum(z, 0))
        if self.work.linear:
            delta = 2 * (inputs[-1] - y) / len(x)
        else:
            e = np.exp(inputs[-1] - inputs[-1].max(axis=1, keepdims=True))
            delta = (e / e.sum(axis=1, keepdims=True) - y) / len(x)
        grads = []
        for i in range(last, -1, -1):
            grads.append((i, inputs[i].T @ delta, delta.sum(axis=0)))
            if i:
                delta = (delta @ self.weights[i].T) * (inputs[i] > 0)
        for i, grad_w, grad_b in grads:
            self.weights[i] -= self.work.rate * self.average(grad_w)
            self.biases[i] -= self.work.rate * self.average(grad_b)


class Products:
    """A step's matrix products, into arrays that are there already: what is left if all else costs nothing."""

    def __init__(self, task: Task, size: int) -> None:
        rng = np.random.default_rng(0)
        n = task.work.batch // size
        self.steps: list[tuple[Array, Array, Array]] = []
        for i, (n_in, n_out) in enumerate(task.work.layers):
            x, w, d = (rng.standard_normal(s, dtype=np.float32) for s in ((n, n_in), (n_in, n_out), (n, n_out)))
            self.steps += [(x, w, np.empty_like(d)), (x.T, d, np.empty_like(w))]
            if i:
                self.steps.append((d, w.T, np.empty_like(x)))

    def run(self, steps: int) -> None:
        """Take steps."""
        for _ in range(steps):
            for a, b, out in self.steps:
                np.dot(a, b, out)


def peak(barrier: Any) -> float:
    """Return GFLOP/s of this process in a large matrix product; others run theirs at the same time."""
    a, b = (np.random.default_rng(0).standard_normal((PEAK, PEAK), dtype=np.float32) for _ in range(2))
    out, best = np.empty_like(a), np.inf
    np.dot(a, b, out)
    for _ in range(5):
        barrier()
        start = time.perf_counter()
        np.dot(a, b, out)
        best = min(best, time.perf_counter() - start)
    return 2 * PEAK**3 / best / 1e9


def scikit_learn(task: Task) -> None:
    """MLPClassifier, batch by batch, its checks off as far as its users can turn them off."""
    import sklearn
    from sklearn.neural_network import MLPClassifier

    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
    warnings.simplefilter("ignore")
    work = task.work
    x, y = task.rows()
    model = MLPClassifier(
        work.sizes[1:-1], solver="sgd", learning_rate_init=work.rate, batch_size=work.batch, alpha=0, momentum=0,
        nesterovs_momentum=False, shuffle=False,
    )  # fmt: skip
    model.partial_fit(x[0], y[0], classes=np.arange(work.sizes[-1]))  # makes its weights; ours take their place
    for i, (weights, bias) in enumerate(task.layers()):
        model.coefs_[i][...] = weights
        model.intercepts_[i][...] = bias

    def run(steps: int) -> None:
        for k in range(steps):
            model.partial_fit(x[k % work.batches], y[k % work.batches])

    def layers() -> Layers:
        return list(zip(model.coefs_, model.intercepts_, strict=True))

    measure(task, run, layers, versions={"scikit-learn": sklearn.__version__})


def sums(task: Task, comm: Any) -> None:
    """Time MPI_Allreduce in place."""
    results = {}
    for n, count in SUMS.items():
        vector = np.zeros(n, np.float32)
        results[str(n)] = time_sums(lambda v=vector: comm.Allreduce(in_place, v), count, comm.Barrier)  # type: ignore[misc]
    task.report(comm.rank, us=results)


if __name__ == "__main__":
    task = Task.given()
    comm, in_place = None, None
    if task.variant not in ("numpy", "sklearn"):
        from mpi4py import MPI

        comm, in_place = MPI.COMM_WORLD, MPI.IN_PLACE
    rank, barrier = (comm.rank, comm.Barrier) if comm else (0, nothing)
    versions = {"numpy": np.__version__}
    if comm:
        versions["mpi"] = " ".join(MPI.Get_library_version().split("\n")[0].strip("\0 ").split())
    if task.name == "sums":
        sums(task, comm)
    elif task.variant == "sklearn":
        scikit_learn(task)
    elif task.variant == "products":
        assert comm
        products = Products(task, comm.size)
        measure(task, products.run, None, versions=versions, rank=rank, barrier=barrier, gflops=peak(barrier))
    else:
        loop = Loop(task, comm)
        measure(task, loop.run, loop.layers, versions=versions, rank=rank, barrier=barrier)
