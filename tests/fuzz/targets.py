"""What is fuzzed: each target takes any bytes, and lets nothing out that is not one of rankwise's own errors."""

import contextlib
import gzip
import io
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import numpy as np

from common.config import OPTIONS, RunConfig, to_toml
from common.data import sources
from common.errors import RankwiseError
from common.flat import Flat
from common.nn import optimizers
from common.run_files import LOG_NAME
from ps.coordinator import earlier_run
from ps.coordinator.coordinator import Coordinator
from ps.findings.detectors import Findings
from ps.logfile.reader import LogReader
from ps.logfile.records import encode
from ps.logfile.schema import Check
from ps.metrics import epoch_metrics
from ps.reader.commands.show import show
from tests.fuzz import array_files
from tests.synthetic import write_run
from workers.checkpoint import checkpoint_file, resume, start
from workers.checkpoint.origin import Origin
from workers.launch import hosts, run_options
from workers.launch.environment_options import PREFIX
from workers.launch.run_options import parse

MODES = {"allreduce": "", "shared": ""}
POSITION = {"epoch": 2, "steps": 3, "closed": False, "rows": 30, "loss_sum": 1.5}
MEMORY = {"epochs": 1, "best_loss": None, "best_epoch": 0, "noise": [0.0, 0.0], "elapsed_s": 1.0}
ABOUT = {"position": POSITION, "counts": {"t": 3}, "world": 2, "mode": "allreduce", "coordinator": MEMORY,
         "skipped": [0, 0, 0]}  # fmt: skip
HEADER = {"kind": "header", "seq": 0, "t": 1.0, "format": "rankwise-log", "v": 1, "data": {"sha256": ""}, "world": 2}
LARGEST_SEED = 50_000
SHAPES = {"W1": (3, 2), "b1": (2,)}


@dataclass(frozen=True, slots=True)
class Target:
    """``run(data, folder)`` reads ``data`` in every way there is.

    ``seeds(folder)`` returns some data that are right, for which it needs a folder of its own.
    """

    run: Callable[[bytes, Path], None]
    seeds: Callable[[Path], list[bytes]]


@contextlib.contextmanager
def own_errors_only() -> Iterator[None]:
    """Let rankwise's own errors pass, but for those that hide that memory ran out."""
    try:
        yield
    except RankwiseError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error


def values_in(data: bytes) -> list[Any]:
    """Return the msgpack values that data begins with."""
    unpacker = msgpack.Unpacker(io.BytesIO(data), strict_map_key=False)
    found = []
    with contextlib.suppress(Exception):  # msgpack's own errors share no base class
        for value in unpacker:
            found.append(value)  # noqa: PERF402
    return found


def _read_log(log: Path) -> None:
    for act in (
        lambda: list(LogReader(log).records()),
        lambda: list(LogReader(log, Check()).records()),
        lambda: earlier_run.read_run(log),
        lambda: earlier_run.start_options(str(log.parent)),
        lambda: show(log.parent, every=True),
    ):
        with own_errors_only(), contextlib.redirect_stdout(io.StringIO()):
            act()


def fuzz_log(data: bytes, folder: Path) -> None:
    """Read bytes as a log, and maps among them as records whose checksums are right."""
    log = folder / LOG_NAME
    log.write_bytes(data)
    _read_log(log)
    sealed = []
    for seq, record in enumerate(value for value in values_in(data) if isinstance(value, dict)):
        with contextlib.suppress(Exception):  # what the writer would not write either
            sealed.append(encode({"kind": "epoch", **record, "seq": seq, "t": 1.0}))
    log.write_bytes(b"".join(sealed))
    _read_log(log)


def _log_seeds(folder: Path) -> list[bytes]:
    log = write_run(folder / "seed", epochs=2, ranks=2) / LOG_NAME
    records = [dict(record) for record in LogReader(log).records()]
    for record in records:
        del record["crc"]
    return [log.read_bytes(), b"".join(msgpack.packb(record) for record in records)]


def _arrays(names: list[str]) -> dict[str, Any]:
    return {f"{kind}/{name}": np.ones(SHAPES[name]) for kind in ("parameters", "m", "v") for name in names}


def _read_checkpoint(folder: Path) -> None:
    """Read it as a job does that goes on with it, on rank 0 and, by what that tells them, on the others."""
    flat = Flat(SHAPES, np.dtype(np.float64))
    adam = optimizers.build(RunConfig(optimizer="adam"), [flat.param_vector])
    state: Any = SimpleNamespace(
        optional=frozenset(), flat=flat, optimizer=adam, vectors=lambda: list(adam.state().items())
    )
    with own_errors_only():
        checkpoint_file.load(folder / "checkpoint-5.npz")
    with own_errors_only():
        start.read_start(str(folder / "checkpoint-5.npz")).fill(flat)
    with own_errors_only():
        read = resume.open_origin(folder, RunConfig(patience=2))
        origin = Origin.from_dict(msgpack.unpackb(msgpack.packb(read.as_dict())))
        coordinator: Any = SimpleNamespace(log=SimpleNamespace(path=folder / LOG_NAME), started=1.0)
        coordinator.noise = epoch_metrics.NoiseScale()
        header = {**HEADER, "config": RunConfig().as_dict(), "nodes": [], "threads": {"set_by": ""}}
        coordinator.findings = Findings(header)
        Coordinator.recall(coordinator, origin.state.last["memory"])
        if read.checkpoint is not None:
            adam.restore(read.checkpoint.saved_state(state, 13).counts)


def fuzz_checkpoint(data: bytes, folder: Path) -> None:
    """Read bytes as a checkpoint, and as the plain values of one whose checksums are right."""
    path = folder / "checkpoint-5.npz"
    log = folder / LOG_NAME
    if not log.exists():
        log.write_bytes(encode(HEADER))
    path.write_bytes(data)
    _read_checkpoint(folder)
    for about in values_in(data)[:1]:
        if isinstance(about, dict) and all(isinstance(key, str) for key in about):
            file = io.BytesIO()
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # msgpack cannot hold it
                checkpoint_file.write(file, checkpoint_file.Snapshot(5, _arrays(list(SHAPES)), about))
            path.write_bytes(file.getvalue())
            _read_checkpoint(folder)


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    file = io.BytesIO()
    checkpoint_file.write(file, checkpoint_file.Snapshot(5, _arrays(list(SHAPES)), ABOUT))
    return [file.getvalue(), msgpack.packb(ABOUT)]


def fuzz_config(data: bytes, folder: Path) -> None:
    """Read bytes as a TOML file, as environment variables, and as the configuration that a log's header holds.

    The command line, which takes long to build, is only asked where their own readers find nothing wrong.
    """
    path, log = folder / "run.toml", folder / LOG_NAME
    path.write_bytes(data)
    with own_errors_only():
        run_options.read_file(path)
        parse(["--config", str(path)], MODES)
    _read_environment(data.replace(b"\0", b"").splitlines()[:50])
    for config in values_in(data)[:1]:
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # what the writer would not write either
            header = {"kind": "header", "seq": 0, "t": 1.0, "format": "rankwise-log", "v": 1, "config": config}
            log.write_bytes(encode(header))
        with own_errors_only():
            run_options.saved_config(str(folder), "")
            parse(["--resume", str(folder)], MODES)


def _read_environment(lines: list[bytes]) -> None:
    pairs = [(name.strip().upper(), value.strip()) for name, _, value in (line.partition(b"=") for line in lines)]
    known = {name.upper().encode() for name in OPTIONS}
    if not pairs or pairs[0][0] not in known:
        return
    before = dict(os.environ)
    try:
        for name, value in pairs:
            os.environb[PREFIX.encode() + name] = value
        with own_errors_only(), contextlib.redirect_stdout(io.StringIO()):
            parse([], MODES)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _config_seeds(folder: Path) -> list[bytes]:
    values = RunConfig(data="own.npz").as_dict()
    text = to_toml({name: value for name, value in values.items() if name not in ("inject", "resume")})
    lines = "\n".join(f"{name}={value}" for name, value in values.items() if isinstance(value, int | float | str))
    return [text.encode(), lines.encode(), msgpack.packb(values)]


def fuzz_npz(data: bytes, folder: Path) -> None:
    """Read bytes as a data set of arrays, and as parameters to start from."""
    path = folder / "own.npz"
    path.write_bytes(data)
    with own_errors_only():
        sources.read(RunConfig(data=str(path)), 0, 1)
    with own_errors_only():
        start.read_start(str(path))


def _npz_seeds(folder: Path) -> list[bytes]:
    """Return a right file, and some that are hostile: bytes alone seldom come to be one."""
    file = io.BytesIO()
    np.savez(file, X=np.ones((4, 2)), y=np.arange(4), allow_pickle=False)
    made = array_files.hostile(0, 60, array_files.SMALL_KINDS)
    return [file.getvalue(), *(data for _, data in made if len(data) < LARGEST_SEED)]


def fuzz_csv(data: bytes, folder: Path) -> None:
    """Read bytes as a table with and without a line of names."""
    path = folder / "own.csv"
    path.write_bytes(data)
    for header in ("auto", "yes", "no"):
        with own_errors_only():
            sources.read(RunConfig(data=str(path), target="-1", header=header), 0, 1)


def _csv_seeds(folder: Path) -> list[bytes]:
    return [b"a,b,c\n1,2,3\n4,5,6\n", b"1,2\n3,4\n", b'"a ""b""",c\n"1",2\n', b"\xef\xbb\xbfa,b\r\n1e5,nan\r\n",
            b"0,1,2\n3,4,5\n", b'"r","a"\n"1",2,3\n']  # fmt: skip


def fuzz_npy(data: bytes, folder: Path) -> None:
    """Read bytes as an array of features, and as one of a target."""
    right = io.BytesIO()
    np.save(right, np.ones(4), allow_pickle=False)
    for x, y in ((data, right.getvalue()), (right.getvalue(), data)):
        # a new file for each: cutting one off that is mapped still would end this process
        place = Path(tempfile.mkdtemp(dir=folder))
        (place / "X.npy").write_bytes(x)
        (place / "y.npy").write_bytes(y)
        with own_errors_only():
            sources.read(RunConfig(data=str(place / "X.npy")), 0, 1)
        shutil.rmtree(place)


def _npy_seeds(folder: Path) -> list[bytes]:
    seeds = []
    for array in (np.ones((4, 2)), np.arange(4), np.array(["a", "b", "a", "b"]), np.ones((4, 2), np.uint8, "F")):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        seeds.append(file.getvalue())
    return [*seeds, *(array_files.array(shape) for shape in array_files.SHAPES)]


def fuzz_libsvm(data: bytes, folder: Path) -> None:
    """Read bytes as LIBSVM's format."""
    path = folder / "own.libsvm"
    path.write_bytes(data)
    with own_errors_only():
        sources.read(RunConfig(data=str(path), max_memory="64M"), 0, 1)


def _libsvm_seeds(folder: Path) -> list[bytes]:
    text = b"1 1:0.5 3:-2e1 # c\n-1 2:.5\n\n+1\n2 0:1\n"
    return [text, b"1 qid:1 1:2\n", b"1,2 1:3\r\n", b"1 999999:1\n" * 3, gzip.compress(text)]


def fuzz_idx(data: bytes, folder: Path) -> None:
    """Read bytes as images and as labels, as they are and packed."""
    labels = struct.pack(">HBBI", 0, 8, 1, 4) + bytes(range(4))
    for content in (data, gzip.compress(data, 1)):
        for images, others in ((content, labels), (labels, content)):
            (folder / "train-images-idx3-ubyte").write_bytes(images)
            (folder / "train-labels-idx1-ubyte").write_bytes(others)
            with own_errors_only():
                sources.read(RunConfig(data=str(folder / "train-images-idx3-ubyte")), 0, 1)


def _idx_seeds(folder: Path) -> list[bytes]:
    head = struct.pack(">HBB3I", 0, 8, 3, 4, 2, 2)
    return [head + bytes(16), gzip.compress(head + bytes(16)), head + bytes(3), gzip.compress(head)[:-4],
            struct.pack(">HBB3I", 0, 14, 3, 2**31, 2**31, 8),
            struct.pack(">HBBI", 0, 13, 1, 4) + bytes(16)]  # fmt: skip


def fuzz_hosts(data: bytes, folder: Path) -> None:
    """Read bytes as a hostfile."""
    path = folder / "hosts"
    path.write_bytes(data)
    with own_errors_only():
        hosts.read_hosts("", str(path), 2)


def _hosts_seeds(folder: Path) -> list[bytes]:
    return [b"a\nb:4\nc slots=2\n# no host\n"]


TARGETS = {
    "log": Target(fuzz_log, _log_seeds),
    "checkpoint": Target(fuzz_checkpoint, _checkpoint_seeds),
    "config": Target(fuzz_config, _config_seeds),
    "npz": Target(fuzz_npz, _npz_seeds),
    "csv": Target(fuzz_csv, _csv_seeds),
    "npy": Target(fuzz_npy, _npy_seeds),
    "libsvm": Target(fuzz_libsvm, _libsvm_seeds),
    "idx": Target(fuzz_idx, _idx_seeds),
    "hosts": Target(fuzz_hosts, _hosts_seeds),
}
