"""Checkpoints: whole or not there, and never anything but their own error from a file of any content."""

import io
import os
import threading
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import run_files
from common.errors import CheckpointError
from common.flat import Array
from tests.kinds import OTHERS, giant, limited
from workers.checkpoint import checkpoint_file
from workers.checkpoint.checkpoint_file import Snapshot
from workers.checkpoint.writer import Writer


def snapshot(step: int = 5, n: int = 1000) -> Snapshot:
    rng = np.random.default_rng(step)
    arrays: dict[str, Array] = {
        "parameters/W": rng.standard_normal((n, 3)).astype(np.float32),
        "parameters/b": rng.standard_normal(3),
        "optimizer/m/W": np.zeros((n, 3), np.float32),
        "empty": np.empty((0, 2)),
    }
    return Snapshot(step, arrays, {"position": {"epoch": 2}, "counts": {"t": step}})


def same(one: Snapshot, other: Snapshot) -> bool:
    return one.arrays.keys() == other.arrays.keys() and all(
        a.dtype == other.arrays[k].dtype
        and a.shape == other.arrays[k].shape
        and a.tobytes() == other.arrays[k].tobytes()
        for k, a in one.arrays.items()
    )


def test_what_is_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    saved = snapshot()
    path = checkpoint_file.save(tmp_path, saved, keep=2)
    loaded = checkpoint_file.load(path)
    assert path.name == "checkpoint-5.npz"
    assert same(saved, loaded)
    assert loaded.step == 5
    assert loaded.about["position"] == {"epoch": 2}
    with np.load(path, allow_pickle=False) as arrays:  # any NumPy reads it
        assert np.array_equal(arrays["parameters/W"], saved.arrays["parameters/W"])


def test_the_newest_are_kept_and_other_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-old.npz").write_text("not ours")
    for step in (1, 9, 10, 200):
        checkpoint_file.save(tmp_path, snapshot(step), keep=2)
    assert [path.name for path in run_files.checkpoints_in(tmp_path)] == ["checkpoint-200.npz", "checkpoint-10.npz"]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10.npz", "checkpoint-200.npz", "checkpoint-old.npz"]


def test_a_damaged_newest_is_reported_and_the_one_before_taken(tmp_path: Path) -> None:
    checkpoint_file.save(tmp_path, snapshot(1), keep=2)
    path = checkpoint_file.save(tmp_path, snapshot(2), keep=2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found, faults = checkpoint_file.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(faults) == 1
    assert str(path) in faults[0]
    assert checkpoint_file.newest(tmp_path / "nowhere")[0] is None


def test_no_older_one_goes_before_the_new_one_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_file.save(tmp_path, snapshot(1), keep=1)
    write = checkpoint_file.write

    def torn(file: Any, snapshot: Snapshot) -> None:
        whole = io.BytesIO()
        write(whole, snapshot)
        data = bytearray(whole.getvalue())
        data[len(data) // 2] ^= 1  # on the disk lies something else than what the checksum was made of
        file.write(data)

    monkeypatch.setattr(checkpoint_file, "write", torn)
    with pytest.raises(CheckpointError):
        checkpoint_file.save(tmp_path, snapshot(2), keep=1)
    assert os.listdir(tmp_path) == ["checkpoint-1.npz"]


def test_a_disk_that_fills_up_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_file.save(tmp_path, snapshot(1), keep=1)

    def full(file: Any, snapshot: Snapshot) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file, "write", full)
    writer = Writer(tmp_path, keep=1)
    writer.start(snapshot(2))
    outcome = writer.ended(wait=True)
    assert isinstance(outcome, OSError)
    assert os.listdir(tmp_path) == ["checkpoint-1.npz"]
    assert writer.ended() is None


def test_a_folder_with_the_name_of_an_old_checkpoint_is_no_fault_of_the_new_one(tmp_path: Path) -> None:
    for name in ("checkpoint-1.npz", "checkpoint-99.npz"):
        (tmp_path / name).mkdir()
    assert checkpoint_file.save(tmp_path, snapshot(2), keep=1) == tmp_path / "checkpoint-2.npz"
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1.npz", "checkpoint-2.npz", "checkpoint-99.npz"]


@pytest.mark.parametrize("kind", [*OTHERS, "not a whole checkpoint"])
def test_a_checkpoint_that_is_no_file_is_passed_over(kind: str, tmp_path: Path) -> None:
    checkpoint_file.save(tmp_path, snapshot(2), keep=1)
    OTHERS.get(kind, giant)(tmp_path / "checkpoint-3.npz")
    found = limited(lambda: print(checkpoint_file.newest(tmp_path)[1]), tmp_path)
    assert f"{tmp_path}/checkpoint-3.npz: " in found.out
    assert kind in found.out
    newest = checkpoint_file.newest(tmp_path)[0]
    assert newest is not None
    assert newest.step == 2


def test_reading_back_takes_hardly_any_memory(tmp_path: Path) -> None:
    array = np.zeros(8 << 20, np.uint8)
    path = checkpoint_file.save(tmp_path, Snapshot(1, {"a": array}), keep=1)
    tracemalloc.start()
    checkpoint_file.verify(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_writing_takes_hardly_any_memory_besides_the_copy(tmp_path: Path) -> None:
    array = np.zeros((4, 2 << 20), np.uint8)
    tracemalloc.start()
    checkpoint_file.save(tmp_path, Snapshot(1, {"a": array}), keep=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_who_waits_sees_whether_the_writing_makes_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    more, over = threading.Event(), threading.Event()

    def slow(folder: Path, snapshot: Snapshot, keep: int, pulse: Any) -> Path:
        pulse()
        more.wait(20)
        pulse()
        over.wait(20)
        return folder

    def tick() -> None:
        ticks.append(len(ticks))
        (more if len(ticks) == 1 else over).set()

    monkeypatch.setattr("workers.checkpoint.writer.save", slow)
    writer = Writer(tmp_path, keep=1)
    writer.start(snapshot(1))
    assert writer.ended(wait=True, tick=tick) == tmp_path
    assert 2 <= len(ticks) <= 3


def test_a_writer_saves_while_training_continues(tmp_path: Path) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    writer = Writer(tmp_path, keep=2)
    assert writer.ended() is None
    writer.start(snapshot(3))
    assert writer.ended(wait=True) == tmp_path / "checkpoint-3.npz"
    assert os.getpriority(os.PRIO_PROCESS, 0) == before  # only the writing thread makes way


WHOLE = io.BytesIO()
checkpoint_file.write(WHOLE, snapshot(5, n=20))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    cut=st.integers(0, len(WHOLE.getvalue()) - 1),
    flips=st.lists(st.integers(0, 8 * len(WHOLE.getvalue()) - 1), max_size=4),
)
def test_damage_is_never_taken_for_a_checkpoint(tmp_path: Path, cut: int, flips: list[int]) -> None:
    data = bytearray(WHOLE.getvalue())
    for bit in flips:
        data[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "checkpoint-5.npz"
    path.write_bytes(data[:cut])
    with pytest.raises(CheckpointError):
        checkpoint_file.load(path)
    path.write_bytes(data)
    try:
        loaded = checkpoint_file.load(path)
    except CheckpointError:
        return
    assert same(loaded, snapshot(5, n=20))  # bits that do not matter: a date, say


def test_none_of_400_flipped_bits_changes_what_is_loaded(tmp_path: Path) -> None:
    """Bits that do not matter may pass: of dates and the like, which a zip file has for each array."""
    path, whole = tmp_path / "checkpoint-5.npz", snapshot(5, n=20)
    found = 0
    for bit in np.random.default_rng(1).choice(8 * len(WHOLE.getvalue()), 400, replace=False).tolist():
        data = bytearray(WHOLE.getvalue())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            loaded = checkpoint_file.load(path)
        except CheckpointError:
            found += 1
        else:
            assert same(loaded, whole)
            assert (loaded.step, loaded.about) == (whole.step, whole.about)
            checkpoint_file.verify(path)
    assert found > 200


def test_checkpoints_with_checksums_of_their_own_load(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    saved = snapshot()
    crcs = {name: zlib.crc32(array.tobytes()) for name, array in saved.arrays.items()}
    path = checkpoint_file.save(tmp_path, Snapshot(5, saved.arrays, {**saved.about, "crc": crcs}), keep=1)
    loaded = checkpoint_file.load(path)
    assert same(loaded, saved)
    assert loaded.about == saved.about


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=2000))
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "checkpoint-1.npz"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        checkpoint_file.load(path)


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-1.npz"
    np.savez_compressed(path, allow_pickle=False, about=np.zeros(10**7, np.uint8))
    with pytest.raises(CheckpointError, match=r"claims to hold more|compressed"):
        checkpoint_file.load(path)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", huge.getvalue())
    with pytest.raises(CheckpointError, match="length it claims"):
        checkpoint_file.load(path)
    checkpoint_file.save(tmp_path, snapshot(1), keep=1)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("parameters/V.npy", huge.getvalue())
    with pytest.raises(CheckpointError, match="length it claims"):
        checkpoint_file.load(path)
    path.unlink()
    with pytest.raises(CheckpointError):
        checkpoint_file.load(path)
