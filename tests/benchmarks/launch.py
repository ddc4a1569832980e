"""Peers, their environments, and how one is launched."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.benchmarks.work import WORKS
from tests.ranks import MPIRUN, environment

ROOT = Path(__file__).parent.parent.parent
NEEDS = {"torch": ["torch==2.13.0", "numpy"], "jax": ["jax"]}
TIMEOUT_S = 300
RANKS = 2
MLPS = tuple(name for name in WORKS if name != "W1")


class PeerError(Exception):
    """A peer could not be set up or run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One line of the table.

    ``home``: the environment it needs, empty for ours. ``start``: ``mpi`` and ``pair`` are two processes with one
    thread each, ``one`` is a process with two.
    """

    label: str
    module: str
    variant: str
    home: str = ""
    start: str = "one"
    realtime: bool = False
    works: tuple[str, ...] = tuple(WORKS)
    ours: bool = False


PEERS = {
    "allreduce": Peer(label="rankwise, allreduce", module="ours", variant="allreduce", start="mpi", ours=True),
    "shared": Peer(label="rankwise, shared", module="ours", variant="shared", start="mpi", ours=True),
    "factors": Peer(label="rankwise, factors", module="ours", variant="factors", start="mpi", ours=True),
    "ddp": Peer(label="PyTorch DDP, gloo", module="torch_peer", variant="ddp", home="torch", start="pair"),
    "ddp-compile": Peer(
        label="PyTorch DDP, gloo, compiled", module="torch_peer", variant="ddp-compile", home="torch", start="pair"
    ),
    "ddp-realtime": Peer(
        label="PyTorch DDP, gloo, real-time class", module="torch_peer", variant="ddp", home="torch", start="pair",
        realtime=True,
    ),
    "torch": Peer(label="PyTorch, 1 process", module="torch_peer", variant="eager", home="torch"),
    "torch-compile": Peer(label="PyTorch compiled, 1 process", module="torch_peer", variant="compile", home="torch"),
    "jax": Peer(label="JAX, jitted step, 1 process", module="jax_peer", variant="jit", home="jax"),
    "jax-loop": Peer(
        label="JAX, jitted loop, 1 process", module="jax_peer", variant="loop", home="jax", works=("W1", "W2", "W3")
    ),
    "sklearn": Peer(
        label="scikit-learn, 1 process", module="numpy_peers", variant="sklearn", works=("W2", "W3")
    ),
    "loop": Peer(label="tutorial loop", module="numpy_peers", variant="loop", start="mpi"),
    "numpy": Peer(label="tutorial loop, 1 process", module="numpy_peers", variant="numpy"),
    "products": Peer(label="matrix products alone", module="numpy_peers", variant="products", start="mpi"),
}  # fmt: skip
SUM_PEERS = ("shared", "loop", "ddp")
"""Whose libraries' sums of a vector are measured."""
MEMORY_PEERS = ("allreduce", "shared", "factors", "ddp", "loop")


@dataclass(slots=True)
class Runner:
    """Launches peers; ``cache`` keeps environments, data and compiled code between runs.

    ``realtime``: put all of them under a real-time scheduling class, not only the peer that is listed with it.
    """

    cache: Path
    torch_index: str
    realtime: bool
    homes: dict[str, str] = field(default_factory=dict)

    def interpreter(self, home: str) -> str:
        """Return the Python of an environment, which is made if it is not there yet. Raises PeerError."""
        if not home:
            return sys.executable
        if home not in self.homes:
            folder = self.cache / home
            python, mark, needs = folder / "bin" / "python", folder / "ready", " ".join(NEEDS[home])
            if not mark.exists() or mark.read_text() != needs:
                print(f"making an environment with {needs} in {folder}", file=sys.stderr)
                index = ["--index-url", self.torch_index] if home == "torch" and self.torch_index else []
                _command([sys.executable, "-m", "venv", str(folder)])
                _command([str(python), "-m", "pip", "install", "-q", *index, *NEEDS[home]])
                mark.write_text(needs)
            self.homes[home] = str(python)
        return self.homes[home]

    def launch(self, peer: Peer, name: str, *, watch: bool = False) -> dict[str, Any]:
        """Run a peer on a workload, or on ``sums``; return its results, of all its processes together."""
        python = self.interpreter(peer.home)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            task = {
                "variant": peer.variant,
                "name": name,
                "folder": str(self.cache / "data"),
                "out": str(out),
                "started": time.monotonic(),
                "watch": watch,
                "realtime": self.realtime or peer.realtime,
            }
            command = [python, "-m", f"tests.benchmarks.{peer.module}", json.dumps(task)]
            common = environment(
                PYTHONPATH=str(ROOT),
                OMP_NUM_THREADS="2" if peer.start == "one" else "1",
                JAX_PLATFORMS="cpu",
                TORCHINDUCTOR_CACHE_DIR=str(self.cache / "inductor"),
            )
            if peer.start == "pair":
                pair = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(RANKS)}
                jobs = [(command, {**common, **pair, "RANK": str(rank)}) for rank in range(RANKS)]
            else:
                jobs = [([MPIRUN, "-np", str(RANKS)] * (peer.start == "mpi") + command, common)]
            errors = Path(folder) / "errors"
            with errors.open("w") as file:
                processes = [_start(command, env, file) for command, env in jobs]
                ended = _finish(processes)
            if not ended:
                codes = [process.returncode for process in processes]
                raise PeerError(f"exit codes {codes}: {errors.read_text().strip()[-1500:]}")
            return merge([json.loads(path.read_text()) for path in sorted(Path(folder).glob("out.*"))])


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Make one result of those of all processes: a step ends when the slowest is done, memory adds up."""
    if "us" in parts[0]:
        return {"us": {n: _slowest([part["us"][n] for part in parts]) for n in parts[0]["us"]}}
    result = {**parts[0], "ms": _slowest([part["ms"] for part in parts])}
    result["first_s"] = max(part["first_s"] for part in parts)
    if "gflops" in result:
        result["gflops"] = sum(part["gflops"] for part in parts)
    last, most = [0] * len(parts), 0
    for _, rank, n_bytes in sorted((t, rank, n) for rank, part in enumerate(parts) for t, n in part["memory"]):
        last[rank] = n_bytes
        most = max(most, sum(last))
    result["memory"] = most
    return result


def _slowest(by_process: list[list[float]]) -> list[float]:
    return [max(times) for times in zip(*by_process, strict=True)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _command(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PeerError(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()[-500:]}")


def _start(command: list[str], env: dict[str, str], errors: IO[str]) -> "subprocess.Popen[bytes]":
    # to a file: a pipe that nobody reads could fill up and hold the peer
    return subprocess.Popen(
        command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
    )


def _finish(processes: list["subprocess.Popen[bytes]"]) -> bool:
    """Wait for all; if one fails or time is up, end the others, which would wait for it. Return whether all is well."""
    end = time.monotonic() + TIMEOUT_S
    try:
        while any(process.poll() is None for process in processes):
            if any(process.returncode for process in processes) or time.monotonic() > end:
                break
            time.sleep(0.01)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return not any(process.returncode for process in processes)
