"""PyTorch: DistributedDataParallel over gloo, or one process; eager or compiled."""

import importlib
import os
from typing import Any

from tests.benchmarks.work import SUMS, Layers, Task, measure, nothing, time_sums

TASK = Task.given()
torch: Any = importlib.import_module("torch")  # in an environment of its own, so no types here
nn, functional, dist = torch.nn, torch.nn.functional, importlib.import_module("torch.distributed")


def build() -> Any:
    """Return the network with the given weights; torch keeps them transposed."""
    modules: list[Any] = []
    for weights, bias in TASK.layers():
        layer = nn.utils.skip_init(nn.Linear, *weights.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights.T))
            layer.bias.copy_(torch.from_numpy(bias))
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def train(rank: int, size: int, barrier: Any) -> None:
    """Time steps."""
    work = TASK.work
    x, y = (torch.from_numpy(part) for part in TASK.rows(rank, size))
    plain = build()
    loss = functional.mse_loss if work.linear else functional.cross_entropy
    compiled = "compile" in TASK.variant
    model = plain
    if size > 1:
        # what its documentation gives for speed; a compiled model refuses the static graph
        model = nn.parallel.DistributedDataParallel(
            torch.compile(plain) if compiled else plain, gradient_as_bucket_view=True, static_graph=not compiled
        )
    optimizer = torch.optim.SGD(plain.parameters(), lr=work.rate, fused=True)

    def forward(rows: Any, targets: Any) -> Any:
        return loss(model(rows), targets)

    if compiled and size == 1:
        forward = torch.compile(forward)  # together with the loss, which DDP's wrapper leaves outside

    def run(steps: int) -> None:
        for k in range(steps):
            optimizer.zero_grad()
            forward(x[k % work.batches], y[k % work.batches]).backward()
            optimizer.step()

    def layers() -> Layers:
        linear = [m for m in plain if isinstance(m, nn.Linear)]
        return [(m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in linear]

    measure(TASK, run, layers, versions={"torch": torch.__version__}, rank=rank, barrier=barrier)


def sums(rank: int) -> None:
    """Time the sum of a vector."""
    results = {}
    for n, count in SUMS.items():
        vector = torch.zeros(n)
        results[str(n)] = time_sums(lambda v=vector: dist.all_reduce(v), count, dist.barrier)  # type: ignore[misc]
    TASK.report(rank, us=results)


def main() -> None:
    """Do what the runner asks for."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if size > 1:
        dist.init_process_group("gloo")
    if TASK.name == "sums":
        sums(rank)
    else:
        train(rank, size, dist.barrier if size > 1 else nothing)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
