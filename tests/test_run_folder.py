"""The folder of a run: jobs that choose one in the same instant, and what is replaced while others look."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import run_files
from common.errors import RankwiseError
from common.files import write_atomic
from common.run_files import CONFIG_NAME, LOG_NAME
from ps.coordinator import run_folder
from ps.coordinator.run_folder import make_folder, new_log
from ps.logfile.writer import RunLog
from workers.supervisor.run_monitor import RunMonitor

AT_ONCE = 48


def _at_once(act: Callable[[], str], folder: Path, barrier: Any, found: Any) -> None:
    os.chdir(folder)
    barrier.wait()
    try:
        found.put(act())
    except BaseException as error:
        found.put(f"{type(error).__name__}: {error}")


def at_once(act: Callable[[], str], folder: Path) -> list[str]:
    """Do something in 48 processes in the same instant; return what each returned or raised."""
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(AT_ONCE), context.Queue()
    processes = [context.Process(target=_at_once, args=(act, folder, barrier, found)) for _ in range(AT_ONCE)]
    for process in processes:
        process.start()
    results = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return results


def take_new() -> str:
    time.strftime = lambda *_: "20260101-000000"  # all in one second
    folder = make_folder("", "allreduce-4")
    new_log(folder)
    return str(folder)


def test_jobs_that_choose_a_folder_at_once_get_one_each(tmp_path: Path) -> None:
    taken = at_once(take_new, tmp_path)
    first = "runs/20260101-000000-allreduce-4"
    assert sorted(taken) == sorted([first, *(f"{first}-{i}" for i in range(2, AT_ONCE + 1))])
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == sorted(["latest", *(Path(name).name for name in taken)])
    assert (tmp_path / "runs" / "latest").resolve().name in left


def take_named() -> str:
    folder = make_folder("runs/mine", "allreduce-4")
    log = new_log(folder)
    (folder / CONFIG_NAME).touch()
    log.close()
    return str(folder)


def test_of_jobs_that_are_given_one_name_one_has_it_and_the_others_are_told(tmp_path: Path) -> None:
    said = at_once(take_named, tmp_path)
    refused = "RankwiseError: output: runs/mine holds a run already; choose another --output"
    assert sorted(said) == sorted(["runs/mine", *[refused] * (AT_ONCE - 1)])
    assert sorted(path.name for path in (tmp_path / "runs" / "mine").iterdir()) == [CONFIG_NAME, LOG_NAME]


def test_latest_always_names_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder("runs/one", "a")
    (tmp_path / "runs" / "other").mkdir()
    link, missed, over = tmp_path / "runs" / "latest", [], threading.Event()

    def look() -> None:
        while not over.is_set():
            if not link.exists():
                missed.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for name in ("other", "one"):
            run_folder._point_latest(tmp_path / "runs" / name)
    over.set()
    thread.join()
    assert not missed
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["latest", "one", "other"]


def test_too_many_runs_of_a_second_are_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_files, "MOST_IN_A_SECOND", 2)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    assert [make_folder("", "a").name for _ in range(2)] == ["now-a", "now-a-2"]
    with pytest.raises(RankwiseError, match=r"^output: cannot write to runs \(2 runs of this name "):
        make_folder("", "a")


def test_where_no_folder_can_be_made_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    for output in ("", "runs/mine"):
        with pytest.raises(RankwiseError, match=r"^output: cannot write to runs.*; choose another --output"):
            make_folder(output, "a")


def test_the_supervisor_leaves_a_log_that_another_job_has_just_created(tmp_path: Path) -> None:
    log = RunLog(tmp_path / LOG_NAME)  # has the lock, and no record yet
    RunMonitor(tmp_path).clear()
    assert (tmp_path / LOG_NAME).exists()
    log.close()
    RunMonitor(tmp_path).clear()
    assert not (tmp_path / LOG_NAME).exists()


def test_processes_of_one_id_write_to_temporary_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)  # as in two containers
    seen: list[set[str]] = []

    def nested(file: Any) -> None:
        write_atomic(tmp_path / "one", lambda inner: inner.write(b"inner"))
        seen.append({path.name for path in tmp_path.iterdir()})
        file.write(b"outer")

    write_atomic(tmp_path / "one", nested)
    assert (tmp_path / "one").read_bytes() == b"outer"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
