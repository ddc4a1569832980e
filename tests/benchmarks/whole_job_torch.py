"""PyTorch DDP over gloo on MNIST, two processes with one thread each, started by ``whole_job.py``."""

import importlib
import itertools
import json
import statistics
import time
from typing import Any

from tests.benchmarks.whole_job_data import images, task

RANKS = 2
torch: Any = importlib.import_module("torch")  # in an environment of its own, so no types here


def train(rank: int, asked: dict[str, Any]) -> None:
    """Train as its documentation shows it, with rows in memory instead of a DataLoader, which is slower."""
    distributed = importlib.import_module("torch.distributed")
    nn = torch.nn
    torch.set_num_threads(1)
    torch.manual_seed(0)
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    x, y, x_test, y_test = (torch.from_numpy(part) for part in images(asked["folder"]))
    sizes = [784, *asked["hidden"], 10]
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    plain = nn.Sequential(*layers[:-1])
    model = nn.parallel.DistributedDataParallel(plain, gradient_as_bucket_view=True, static_graph=True)
    optimizer = torch.optim.Adam(plain.parameters(), lr=asked["rate"], fused=True)
    own, seconds = asked["batch"] // RANKS, []
    for epoch in range(asked["epochs"]):
        begin = time.perf_counter()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))[rank::RANKS]
        for first in range(0, len(order), own):
            rows = order[first : first + own]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - begin)
    if rank == 0:
        with torch.no_grad():
            accuracy = 100 * (plain(x_test).argmax(1) == y_test).float().mean().item()
        print(json.dumps({"epoch_s": statistics.median(seconds), "accuracy": accuracy}), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(train, (task(),), RANKS)
