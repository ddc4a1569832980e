"""Standard output that the launcher cannot write: it is not given what would end the job, and training goes on."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import launcher_output
from common.launcher_output import NO_READER, LauncherStream
from ps.logfile.records import Record
from tests.conftest import need
from tests.ranks import MPIRUN, environment, finish, popen, records, wait_until

FULL = Path("/dev/full")
NO_SPACE = os.strerror(errno.ENOSPC)
JOB = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--hidden", "8", "--output", "run"]
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def check_whole(folder: Path) -> list[Record]:
    """Return the log of a run that came to its end, in which nobody died."""
    found = records(folder / "run")
    assert (found[-1]["kind"], found[-1]["status"]) == ("end", "ok")
    assert not [record for record in found if record.get("what") in ("death", "launcher-gone")]
    assert not (folder / "run" / "failure.txt").exists()
    return found


@needs_full
def test_a_full_disk_ends_no_training(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        process = subprocess.Popen(
            [*JOB, "--epochs", "5"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(),
            start_new_session=True,
        )  # fmt: skip
    result = finish(process)
    assert result.code == 0, result.err
    check_whole(tmp_path)


def test_a_reader_that_leaves_ends_no_training(tmp_path: Path) -> None:
    process = popen([*JOB, "--epochs", "5"], cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()  # as head does
    assert process.wait(60) == 0
    assert process.stderr is not None
    process.stderr.close()
    check_whole(tmp_path)


def test_so_on_a_small_disk(tmp_path: Path) -> None:
    """The disk becomes full in the middle of training, and standard error is on it, too."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False).returncode
    need(mounted == 0, "a user who may mount a tmpfs")
    try:
        (disk / "filler").write_bytes(bytes(8 << 10))
        with (disk / "train.log").open("w") as file:
            process = subprocess.Popen(
                [*JOB, "--epochs", "40", "--verbose"], stdout=file, stderr=file, cwd=tmp_path, env=environment(),
                start_new_session=True,
            )  # fmt: skip
            assert process.wait(60) == 0
        assert (disk / "train.log").read_text().startswith("Mode ")
        assert (disk / "train.log").stat().st_size <= 8 << 10
        check_whole(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@needs_full
def test_the_log_says_why_the_launcher_ended(tmp_path: Path, mpi: str) -> None:
    """Where a rank does not look first: what a library prints, say."""
    if mpi != "mpich":
        pytest.skip("Open MPI's launcher does not end")
    unseen = (
        "from common import launcher_output, standard_streams\n"
        "from ps.text import terminal\n"
        "import sys; from workers import run\n"
        "def quiet(line): sys.stdout.write(line) if 'Epoch 3' in line else None; sys.stdout.flush()\n"
        "from ps.coordinator import display; display.say = quiet\n"
        "sys.exit(run.main())"
    )
    with FULL.open("w") as full:
        command = [*JOB[:4], "-c", unseen, *JOB[6:], "--epochs", "100000"]
        process = subprocess.Popen(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(),
            start_new_session=True,
        )  # fmt: skip
    assert finish(process).code != 0
    wait_until(lambda: records(tmp_path / "run")[-1].get("what") == "launcher-gone", "no word of the launcher")
    assert f"its standard output cannot be written ({NO_SPACE})" in records(tmp_path / "run")[-1]["message"]
    assert NO_SPACE in (tmp_path / "run" / "failure.txt").read_text()


def test_space_is_kept_for_what_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def fallocate(handle: int, start: int, n_bytes: int) -> None:
        if start + n_bytes > 100:
            raise OSError(errno.ENOSPC, NO_SPACE)
        kept.append((start, n_bytes))

    monkeypatch.setattr(launcher_output, "_fallocate", fallocate)
    file = tmp_path / "file"
    file.write_bytes(bytes(10))
    stream = LauncherStream(str(file))
    assert [stream.fault(n) for n in (40, 40, 40, 10)] == ["", "", NO_SPACE, ""]
    assert kept == [(10, 40), (10, 80), (10, 90)]
    file.write_bytes(bytes(100))
    assert stream.fault(1) == NO_SPACE


def test_a_file_stays_as_long_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"what is there")
    assert not LauncherStream(str(file)).fault(1000)
    assert file.read_bytes() == b"what is there"


def test_a_disk_that_keeps_no_space_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(launcher_output, "_fallocate", cannot)
    (tmp_path / "file").touch()
    stream = LauncherStream(str(tmp_path / "file"))
    assert not stream.fault(1)
    assert stream.fault(1 << 60) == NO_SPACE


def test_pipes_devices_and_what_cannot_be_seen(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    stream = LauncherStream(f"/proc/self/fd/{writer}")
    assert not stream.fault(1)
    os.close(reader)
    assert stream.fault(1) == NO_READER
    os.close(writer)
    assert not LauncherStream(os.devnull).fault(1)
    assert not LauncherStream(str(tmp_path)).fault(1)
    assert not LauncherStream(str(tmp_path / "none")).fault(1)
    if FULL.exists():
        assert LauncherStream(str(FULL)).fault(1) == NO_SPACE


def test_what_is_written_to_a_pipe_is_waited_for_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, bytes(300))
    naps = []

    def read_some(seconds: float) -> None:
        naps.append(seconds)
        os.read(reader, 256)

    monkeypatch.setattr("common.launcher_output.time.sleep", read_some)
    launcher_output.wait_until_read(writer, 60.0)
    assert len(naps) == 2
    os.write(writer, b"x")
    launcher_output.wait_until_read(writer, 0.0)
    os.close(reader)
    os.close(writer)
    launcher_output.wait_until_read(writer, 60.0)


def test_streams_are_looked_at_when_their_process_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_output, "_streams", {})
    with (tmp_path / "file").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file
        )
    assert process.stdin is not None
    assert process.stdout is not None
    launcher_output.hold_streams(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not process.stdout.read(), "who holds the pipe like this keeps no reader waiting"
    assert not launcher_output.output_fault(1, "x")
    launcher_output.print_past_launcher("a last word\n")
    assert (tmp_path / "file").read_text() == "a last word\n"
    process.stdout.close()
    process.stdin.close()
    assert launcher_output.output_fault(1, "x") == NO_READER
