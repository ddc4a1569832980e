"""A message names what it is about: the file, the folder, the process and its host."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import RankwiseError
from common.files import told, write_atomic
from common.host import host
from common.run_files import LOG_NAME
from ps.coordinator.run_folder import cannot_begin, new_log
from ps.logfile import lock
from ps.logfile.writer import RetryQueue, RunLog
from tests.ranks import environment
from tests.test_lock import hold, of_process, write_log
from workers.checkpoint import checkpoint_file
from workers.checkpoint.checkpoint_file import Snapshot

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "a").rename(tmp_path / "b")
    assert told(caught.value) == f"{tmp_path}/a -> {tmp_path}/b: No such file or directory"
    assert told(OSError(28, "No space left on device")) == "No space left on device"
    assert told(OSError("odd")) == "odd"
    assert told(OSError()) == "OSError"


def test_a_file_that_does_not_fit_is_named_and_not_its_temporary_one(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(tmp_path / "model.npz", fail)
    assert told(caught.value) == f"{tmp_path}/model.npz: No space left on device"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "no" / "model.npz", fail)
    assert told(caught.value) == f"{tmp_path}/no/model.npz: No such file or directory"


def test_a_job_that_cannot_write_its_first_files_says_what_to_do(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device", f"{tmp_path}/config.toml")
    assert str(cannot_begin(tmp_path, full, resumed=False)) == (
        f"output: cannot write to {tmp_path} (No space left on device); choose another --output"
    )
    assert str(cannot_begin(tmp_path, full, resumed=True)) == (
        f"resume: {tmp_path}/config.toml: No space left on device; make room in {tmp_path} or make it writable, and "
        "resume again"
    )
    with pytest.raises(RankwiseError, match=r"cannot write to .*/gone .*; choose another"):
        new_log(tmp_path / "gone")


def test_the_remedy_for_a_log_that_is_a_link_is_none_that_copies_the_link(tmp_path: Path) -> None:
    real = write_log(tmp_path, nodes=[])
    (tmp_path / "a b").mkdir()
    log = tmp_path / "a b" / LOG_NAME
    log.symlink_to(real)
    with pytest.raises(RankwiseError, match=r"is a symbolic link, .*; put the file itself in its place"):
        lock.refuse_locked(log)
    log.unlink()
    log.hardlink_to(real)
    with pytest.raises(RankwiseError, match=r"is a hard link: .*: cp -r '.*/a b' COPY"):
        lock.refuse_locked(log)


def test_a_checkpoint_is_named_by_its_file(tmp_path: Path) -> None:
    """Not by the step that it claims: somebody may have renamed it."""
    checkpoint_file.save(tmp_path, Snapshot(20, {"parameters/W": np.zeros(2)}, {}), keep=1)
    (tmp_path / "checkpoint-20.npz").rename(tmp_path / "checkpoint-999.npz")
    found, faults = checkpoint_file.newest(tmp_path)
    assert found
    assert not faults
    assert (found.step, found.path) == (20, tmp_path / "checkpoint-999.npz")


def test_who_writes_to_a_new_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job, or a supervisor that cleans up, may lock it between two calls."""

    def locked(handle: int, log: Path) -> None:
        assert handle
        raise BlockingIOError(11, "another job writes to it", str(log))

    monkeypatch.setattr("ps.logfile.writer.lock_file", locked)
    with pytest.raises(
        RankwiseError, match=rf"^{tmp_path / LOG_NAME}: another job writes to it, on another host or of"
    ):
        new_log(tmp_path)


def test_who_took_the_place_of_a_log_that_was_removed_is_named(
    tmp_path: Path, held: list["subprocess.Popen[str]"]
) -> None:
    path = tmp_path / LOG_NAME
    warnings: list[str] = []
    queue = RetryQueue(RunLog(path), warnings.append)
    queue.append("header")
    path.unlink()
    write_log(tmp_path, nodes=[])
    queue.append("event", what="a")
    pid = hold(path, held, "event")
    queue.append("event", what="b")
    queue.append("event", what="c")
    first, second = warnings
    assert f"{path}: cannot be written (another file has taken its place);" in first
    assert f"{path}: cannot be written (another job writes to it: process {pid} on {host()}" in second


def test_a_process_that_a_log_claims_is_a_number(tmp_path: Path) -> None:
    """What a message says to enter must not come from a foreign log."""
    path = write_log(tmp_path, **{**of_process(1, "n07"), "pid": "1; rm -r x"})
    said = str(lock.in_use(path))
    assert "rm -r" not in said
    assert f"fuser -v {path}" in said
    (tmp_path / "a b").mkdir()
    assert f"cp -r '{tmp_path}/a b' COPY" in str(lock.in_use(write_log(tmp_path / "a b", **of_process(1, "n07"))))


def without_privileges() -> None:
    """Let permissions hold for root, too: in the child, before it runs Python."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def make_folder(folder: Path) -> str:
    code = (
        "import sys; from common.errors import RankwiseError; from ps.coordinator.run_folder import make_folder\n"
        "try: print(make_folder(sys.argv[1], 'x'))\n"
        "except RankwiseError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=True, preexec_fn=without_privileges
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("mode", "what"),
    [(0o300, "read"), (0o500, "write to"), (0o200, "read or enter"), (0o000, "read or write to or enter")],
)
def test_what_is_missing_of_a_folders_permissions_is_named(mode: int, what: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    try:
        said = make_folder(folder)
        assert said == f"output: cannot {what} {folder} (Permission denied); choose another --output"
        inside = make_folder(folder / "in")
        readable = {0o300: str(folder / "in")}
        refused = f"output: cannot write to {folder / 'in'} (Permission denied); choose another --output"
        assert inside == readable.get(mode, refused)
    finally:
        folder.chmod(0o700)
