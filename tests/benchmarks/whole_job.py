"""Whole jobs on MNIST, from files to accuracy: ``python -m tests.benchmarks.whole_job FOLDER --torch PYTHON``.

Every mode on two ranks, scikit-learn's network and PyTorch DDP on two processes, in turn, round after round: wall time
of the process or job, time of an epoch, most memory of all its processes together (Pss), accuracy on the test images.
``FOLDER`` holds MNIST's four IDX files, unpacked (``python -m tests.real_sets FOLDER MNIST --fetch`` gets them).
``PYTHON`` has PyTorch.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from tests.ranks import MPIRUN, environment, records

IMAGES, EPOCHS, BATCH, HIDDEN, RATE = "train-images-idx3-ubyte", 10, 128, (512, 512), 0.001
MODES = ("allreduce", "reduce-bcast", "send-recv", "shared", "factors")
ROOT = Path(__file__).parents[2]
SAMPLE_S = 0.2
Figures = dict[str, float]


def memory_of(root: int) -> float:
    """Return the megabytes that a process and those below it take, pages that several share counted once."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        try:
            children[int((path / "stat").read_text().rpartition(")")[2].split()[1])].append(int(path.name))
        except OSError:
            continue  # it has ended
    total, below = 0, [root]
    while below:
        pid = below.pop()
        below += children[pid]
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def watched(command: list[str], env: dict[str, str]) -> tuple[str, Figures]:
    """Run a command; return what it prints, its wall time and most memory."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    most = [0.0]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            most[0] = max(most[0], memory_of(process.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    out = process.communicate()[0]
    ended.set()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return out, {"wall_s": time.perf_counter() - begin, "memory_mb": most[0]}


def ours(folder: Path, mode: str) -> Figures:
    """Train with a mode on two ranks."""
    with tempfile.TemporaryDirectory() as place:
        options = [
            "--mode",
            mode,
            "--hidden",
            ",".join(map(str, HIDDEN)),
            "--epochs",
            str(EPOCHS),
            "--batch-size",
            str(BATCH),
        ]
        split = ["--validation-fraction", "0", "--learning-rate", str(RATE), "--output", f"{place}/run"]
        job = [
            MPIRUN,
            "-np",
            "2",
            sys.executable,
            "-m",
            "workers.run",
            "--data",
            str(folder / IMAGES),
            *options,
            *split,
        ]
        figures = watched(job, environment())[1]
        log = records(Path(place) / "run")
    epochs = [max(record["loop_s"]) for record in log if record["kind"] == "epoch"]
    return {**figures, "epoch_s": statistics.median(epochs), "accuracy": 100 * log[-1]["test_metric"]}


def peer(name: str, folder: Path, python: str, **more: str) -> Figures:
    """Run one of the programs beside this one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "localhost", "MASTER_PORT": port, **more}
    task = json.dumps({"folder": str(folder), "epochs": EPOCHS, "batch": BATCH, "hidden": HIDDEN, "rate": RATE})
    out, figures = watched([python, "-m", f"tests.benchmarks.{name}", task], env)
    return {**figures, **json.loads(out.splitlines()[-1])}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", help="a Python with PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, list[Figures]] = defaultdict(list)
    for _ in range(asked.rounds):
        for mode in MODES:
            found[f"rankwise, {mode}"].append(ours(asked.folder, mode))
        found["scikit-learn, 2 threads"].append(peer("whole_job_sklearn", asked.folder, sys.executable))
        if asked.torch:
            found["PyTorch DDP, gloo"].append(peer("whole_job_torch", asked.folder, asked.torch))
    print("| | whole job, s | an epoch, s | memory, MiB | accuracy |\n| --- | --- | --- | --- | --- |")
    for name, rounds in found.items():
        cells = {key: [one[key] for one in rounds] for key in rounds[0]}
        wall = f"{statistics.median(cells['wall_s']):.1f} ({min(cells['wall_s']):.1f} to {max(cells['wall_s']):.1f})"
        epoch, memory = statistics.median(cells["epoch_s"]), statistics.median(cells["memory_mb"])
        print(f"| {name} | {wall} | {epoch:.2f} | {memory:,.0f} | {statistics.mean(cells['accuracy']):.2f} % |")


if __name__ == "__main__":
    main()
