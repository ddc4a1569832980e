"""What files and options claim is checked before memory is taken: one message, and next to nothing was taken."""

import io
import re
import resource
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.arrays_file import open_arrays
from common.config import RunConfig
from common.data import text_table
from common.data.sources import read
from common.errors import BrokenFileError, ConfigError, DataError
from common.memory import THIS_PROCESS, Limit, MemoryLimitError, node_bytes, size
from tests.fuzz import array_files, hostile_arrays
from tests.ranks import mpirun
from workers.checkpoint import checkpoint_file
from workers.checkpoint.start import read_start

GIB = 1 << 30


@pytest.fixture
def limited() -> Iterator[None]:
    THIS_PROCESS.set("8M")
    yield
    THIS_PROCESS.set()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4G", 4 * GIB), ("500M", 500 << 20), ("1.5GiB", 3 * GIB // 2), ("2 tb", 2 << 40), ("2097152", 2 << 20)],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert size(text) == n_bytes
    assert RunConfig(max_memory=text).max_memory == text


@pytest.mark.parametrize("text", ["4X", "-1G", "0", "1K", "G", "1e9", "1" * 400, "999999999999999T", "nan", "4G\n4G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="max_memory: got"):
        RunConfig(max_memory=text)


def test_the_memory_of_a_node_is_what_control_groups_and_slurm_leave(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\nMemFree: 1 kB\n")
    (tmp_path / "own").write_text("5:cpu:/\n0::/job/step\n")
    (tmp_path / "job" / "step").mkdir(parents=True)

    def found(**environment: str) -> int:
        return node_bytes(environment, tmp_path / "meminfo", tmp_path, tmp_path / "own")

    assert found() == 8 * GIB
    (tmp_path / "job" / "step" / "memory.max").write_text("max\n")
    assert found() == 8 * GIB
    (tmp_path / "job" / "memory.max").write_text(f"{4 * GIB}\n")
    assert found() == 4 * GIB
    assert found(SLURM_MEM_PER_NODE="2048") == 2 * GIB
    assert found(SLURM_MEM_PER_CPU="512", SLURM_CPUS_ON_NODE="2") == GIB
    assert found(SLURM_MEM_PER_NODE="0", SLURM_MEM_PER_CPU="x") == 4 * GIB
    (tmp_path / "own").write_text("3:memory:/old\n")
    (tmp_path / "memory" / "old").mkdir(parents=True)
    (tmp_path / "memory" / "old" / "memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    assert found() == 3 * GIB


def test_a_file_may_take_half_and_all_together_the_whole() -> None:
    """So that data that fit are not refused, though copies are made of them."""
    limit = Limit(4 * GIB, 8 * GIB, "the 16.0 GiB of this node by 2 ranks", 2, divided=True)
    limit.check("data", 4 * GIB, 4 * GIB)
    with pytest.raises(
        MemoryLimitError, match=r"needs 5\.0 GiB .* 10\.0 GiB for the 2 ranks .* 4\.0 GiB, half of the 16"
    ):
        limit.check("data", 5 * GIB, GIB)
    with pytest.raises(MemoryLimitError, match=r"needs 9\.0 GiB .*--max-memory 9G if .* or fewer ranks per node"):
        limit.check("model", 0, 9 * GIB, "a smaller model")


@pytest.mark.usefixtures("limited")
def test_packed_zeros_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, allow_pickle=False, X=np.zeros((60, 1 << 16)), y=np.arange(60) % 3)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(MemoryLimitError, match=r"data .*data.npz: needs .* allowed are 8.0 MiB, as --max-memory says"):
        read(RunConfig(data=str(path)), 0, 1)
    np.savez_compressed(path, allow_pickle=False, X=np.zeros((60, 3)), y=np.arange(60) % 3, other=np.zeros(1 << 22))
    assert read(RunConfig(data=str(path)), 0, 1).x.shape == (60, 3)  # what is not read does not count


@pytest.mark.usefixtures("limited")
def test_checkpoints_and_models_are_refused_too(tmp_path: Path) -> None:
    big = {"parameters/W": np.zeros(2 << 20)}
    path = checkpoint_file.save(tmp_path, checkpoint_file.Snapshot(5, big), keep=1)
    with pytest.raises(MemoryLimitError, match=r"checkpoint .* needs 16\.0 MiB"):
        checkpoint_file.newest(tmp_path)  # not passed over for an older one
    np.savez(tmp_path / "model.npz", allow_pickle=False, W=np.zeros(2 << 20))
    for file in (path, tmp_path / "model.npz"):
        with pytest.raises(MemoryLimitError):
            read_start(str(file))
    tiny = checkpoint_file.Snapshot(6, {}, {"x": [{}] * 1_000_000})  # 64 MB of Python's objects in a file of 1
    with pytest.raises(MemoryLimitError):
        checkpoint_file.load(checkpoint_file.save(tmp_path, tiny, keep=1))


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("field", [20, 24])  # packed bytes and bytes of a directory's entry
def test_a_checkpoint_whose_damage_claims_much_is_passed_over(tmp_path: Path, field: int) -> None:
    arrays = {"parameters/W": np.zeros(1000)}
    for step in (5, 6):
        path = checkpoint_file.save(tmp_path, checkpoint_file.Snapshot(step, arrays), keep=2)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + field + 3] ^= 64  # a GiB more
    path.write_bytes(data)
    found, faults = checkpoint_file.newest(tmp_path)
    assert found
    assert (found.step, len(faults)) == (5, 1)


@pytest.mark.usefixtures("limited")
def test_a_directory_is_not_taken_in_however_large_it_claims_to_be(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        file.seek(1 << 40)  # sparse
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 1 << 31, 0, 0))
    with (
        pytest.raises(BrokenFileError, match=r"its directory claims 2,147,483,648 bytes; allowed are"),
        open_arrays(path),
    ):
        pass


@pytest.mark.usefixtures("limited")
def test_lines_and_rows_of_a_table_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_table, "PIECE_CHARS", 1 << 10)
    monkeypatch.setattr(text_table, "LONGEST_LINE", 1 << 12)
    monkeypatch.setattr(text_table, "MOST_COLUMNS", 1000)
    monkeypatch.setattr(text_table, "MOST_EMPTY", 100)
    for text, said in (
        ("1," * 5000, "a line of more than"),
        ("a,b\n1,2\n" + "1," * 5000, "a line of more than"),
        ("1," * 1500, "a row of more than 1,000 columns"),
        ('"\n",' * 1500, "a row of more than 1,000 columns"),
        ("\n" * 5000, "more than 100 empty lines"),
        ("a,b\n" + "\n" * 5000, "more than 100 empty lines"),
        ("a,b\n1,2\n" * 100 + "3,\0\n", "holds NUL"),
        ("a,b\n1,2\n" * 100 + "3,pear\n" + "x" * 2000, "not a table of numbers"),
    ):
        (tmp_path / "data.csv").write_text(text)
        with pytest.raises(DataError, match=said):
            read(RunConfig(data=str(tmp_path / "data.csv"), target="2"), 0, 1)
    (tmp_path / "data.csv").write_text("a,b\n" + "1,2\n" * 1_000_000)
    with pytest.raises(MemoryLimitError, match=r"data\.csv: needs .* float32"):
        read(RunConfig(data=str(tmp_path / "data.csv"), target="b"), 0, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n", encoding=encoding)
    with pytest.raises(DataError, match=r"is UTF-16; save it as UTF-8|holds NUL"):
        read(RunConfig(data=str(tmp_path / "data.csv"), target="b"), 0, 1)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "|b1", "<u8", "<U3", "<c8", "<M8[s]"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0), (4, 5), (2, 3, 4)])
def test_plain_arrays_come_back_as_numpy_reads_them(
    tmp_path: Path, order: str, dtype: str, shape: tuple[int, ...]
) -> None:
    whole = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype), order=order)  # type: ignore[call-overload]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", allow_pickle=False, **{"W/1": whole})
        with open_arrays(tmp_path / "a.npz") as arrays:
            got = arrays.read("W/1")
        assert (got.dtype, got.shape) == (whole.dtype, whole.shape)
        np.testing.assert_array_equal(got, whole)


def test_archives_of_others_are_read(tmp_path: Path) -> None:
    """With a comment, something before them, and members of all kinds beside the arrays."""
    one = array_files.array()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/", "")
        archive.writestr("read.me", "text", zipfile.ZIP_LZMA)
        archive.writestr("a/X.npy", one, zipfile.ZIP_DEFLATED)
        archive.comment = b"PK and more"
    (tmp_path / "a.npz").write_bytes(b"#!/bin/sh\n" + file.getvalue())
    with open_arrays(tmp_path / "a.npz") as arrays:
        assert arrays.read("a/X").shape == (60, 3)
        with pytest.raises(BrokenFileError, match="packed by LZMA"):
            arrays.read("read.me")
        with pytest.raises(BrokenFileError, match="holds no 'b'"):
            arrays.read("b")


@pytest.mark.slow
@pytest.mark.any_mpi
def test_hostile_files_end_in_an_answer(tmp_path: Path) -> None:
    THIS_PROCESS.set("64M")
    try:
        for kind, data in array_files.hostile(seed=0, files=64):
            assert hostile_arrays.read(kind, data, tmp_path)
    finally:
        THIS_PROCESS.set()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--hidden", "1000000,1000000"),
            r"model of [\d,]+ parameters, with adam in mode allreduce: needs 1\d\.\d TiB",
        ),
        (("--hidden", "1000000,1000000", "--mode", "auto"), "in mode shared: needs"),
        (("--hidden", "1000", "--max-memory", "1M"), "allowed are 1.0 MiB, as --max-memory says; give a smaller model"),
    ],
)
def test_a_model_too_large_is_one_message(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = mpirun(2, "-m", "workers.run", *options, cwd=tmp_path)
    assert result.code == 1
    assert re.search(said, result.err), result.err
    assert result.err.count("rankwise:") == 1
    assert not (tmp_path / "runs").exists()


def test_the_limit_of_a_process_is_what_ulimit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 26, 1 << 26))
    THIS_PROCESS.set(ranks=1)
    assert (THIS_PROCESS.limit.read, THIS_PROCESS.limit.total) == (1 << 25, 1 << 26)
    monkeypatch.undo()
    THIS_PROCESS.set()
