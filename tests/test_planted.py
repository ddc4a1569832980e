"""Links and files that others have put into a run folder: a job writes through none, and removes its own alone."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import RankwiseError
from common.files import read_small
from common.rank_status import StatusRow
from common.run_files import (
    CONFIG_NAME,
    DAMAGED_LOG_NAME,
    FAILURE_NAME,
    LOG_NAME,
    MODEL_NAME,
    OUTPUT_NAMES,
    death_notes,
    fill_failure,
    leave_death_note,
    read_failure,
    write_failure_once,
)  # fmt: skip
from ps.coordinator import run_folder
from ps.logfile.writer import RunLog
from tests.kinds import NOBODY, OTHERS, giant, limited
from workers.supervisor.run_monitor import RunMonitor
from workers.training import membership
from workers.watchdog.row_exchange import RowExchange
from workers.watchdog.stall_detector import StallDetector


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path]:
    """Return a run folder and, outside of it, a file that nobody may change."""
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("precious")
    folder.mkdir()
    return folder, precious


LINKS: dict[str, Callable[[Path, Path], None]] = {"symbolic": os.symlink, "hard": os.link}


@pytest.mark.parametrize("kind", LINKS)
def test_a_jobs_messages_are_written_through_no_link(kind: str, planted: tuple[Path, Path]) -> None:
    folder, precious = planted
    link = LINKS[kind]
    note = {"what": "death", "rank": 1, "host": "a", "epoch": 1, "step": 1, "phase": "input", "message": "died",
            "noticed": 1.0}  # fmt: skip
    link(precious, folder / "death-1.json")
    assert leave_death_note(folder, note)
    assert [event for _, event in death_notes(folder)] == [note]
    link(precious, folder / FAILURE_NAME)
    assert not write_failure_once(folder, "message")
    with pytest.raises(OSError, match="link"):
        fill_failure(folder, "message")
    assert precious.read_text() == "precious"


def test_a_link_put_in_the_place_of_a_reserved_message_is_not_followed(planted: tuple[Path, Path]) -> None:
    folder, precious = planted
    assert write_failure_once(folder)
    (folder / FAILURE_NAME).unlink()
    (folder / FAILURE_NAME).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        fill_failure(folder, "message")
    assert precious.read_text() == "precious"
    (folder / FAILURE_NAME).unlink()
    fill_failure(folder, "written again")
    assert read_failure(folder) == "written again"


@pytest.mark.parametrize("kind", LINKS)
def test_a_log_is_continued_and_written_again_through_no_link(kind: str, planted: tuple[Path, Path]) -> None:
    folder, precious = planted
    log = folder / LOG_NAME
    LINKS[kind](precious, log)
    with pytest.raises(FileExistsError):
        RunLog(log)
    with pytest.raises(OSError, match="link"):
        RunLog(log, new=False)
    log.unlink()
    writer = RunLog(log)
    writer.append("event", what="first")
    log.unlink()
    LINKS[kind](precious, log)
    with pytest.raises(FileExistsError):
        writer.append("event", what="second")
    assert precious.read_text() == "precious"
    log.unlink()
    writer.append("event", what="second")
    assert log.stat().st_size == writer.size
    writer.close()


def test_notes_that_no_watchdog_wrote_are_left_alone(planted: tuple[Path, Path]) -> None:
    folder, _ = planted
    note = {"what": "death", "rank": 1, "host": "a", "epoch": 1, "step": 1, "phase": "input", "message": "died",
            "noticed": 1.0}  # fmt: skip
    hostile = [[], {}, {**note, "noticed": None}, {**note, "kind": "end"}, {**note, "rank": "1"}, "x" * (2 << 20)]
    for number, value in enumerate(hostile):
        (folder / f"death-{number}.json").write_text(json.dumps(value))
    (folder / "death-20.json").write_text("[" * 100_000)
    (folder / "death-mine.json").write_text(json.dumps(note))
    (folder / "elsewhere.json").write_text(json.dumps(note))
    (folder / "death-21.json").symlink_to("elsewhere.json")
    os.mkfifo(folder / "death-22.json")
    if not os.geteuid():
        (folder / "death-23.json").write_text(json.dumps(note))
        os.chown(folder / "death-23.json", NOBODY, -1)
    assert limited(lambda: len(death_notes(folder)), folder.parent) == (0, "", "")


KEPT = (
    ".checkpoint-3.npz.mine", ".checkpoint-best.npz.4711", ".checkpoint-3.npz.4711.bak", ".model.npz.20260101",
    ".model.npz.0", ".model.npz.0123456789abcde.part", ".mine.npz.0123456789abcdef.part", ".model.npz.part",
    ".page.html.0123456789abcdef.part", "checkpoint-3.npz.4711", "stack-overflow.txt", "progress-report",
    "progress-0123456", "death-of-a-rank.json", "checkpoint-2.npz", "model.npz", "failure-0.md",
)  # fmt: skip
LEFT = (
    *(f".{name}.{token}" for name in (CONFIG_NAME, "checkpoint-3.npz", *OUTPUT_NAMES)
      for token in ("4711", "0123456789abcdef.part")),
    *(f".{name}.0123456789abcdef.part" for name in (LOG_NAME, DAMAGED_LOG_NAME.format(1))),
    "progress-01234567", "stack-1.txt", "death-1.json", ".death-1.json", ".death-1.json.0123456789abcdef.part",
    ".stack-1.txt.0123456789abcdef.part",
)  # fmt: skip


def test_of_what_a_killed_job_left_its_own_kind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (*KEPT, *LEFT):
        (tmp_path / name).touch()
    (tmp_path / ".checkpoint-7.npz.4711").symlink_to("model.npz")
    (tmp_path / ".checkpoint-8.npz.4711").mkdir()
    os.mkfifo(tmp_path / ".checkpoint-9.npz.4711")
    run_folder.remove_unfinished(tmp_path)
    run_folder.tidy(tmp_path)
    left = (".checkpoint-8.npz.4711", ".checkpoint-9.npz.4711")
    assert sorted(os.listdir(tmp_path)) == sorted((*KEPT, *left))


@pytest.mark.parametrize("kind", [*OTHERS, "has more than"])
def test_a_message_that_cannot_be_read_makes_room_for_the_next(kind: str, tmp_path: Path) -> None:
    monitor = RunMonitor(tmp_path)
    OTHERS.get(kind, giant)(tmp_path / FAILURE_NAME)
    (tmp_path / "failure-1.txt").symlink_to("nowhere")
    found = limited(lambda: print(monitor.outcome(1, "what it printed").message), tmp_path)
    assert found.out == "what it printed\n", found
    assert not os.path.lexists(tmp_path / FAILURE_NAME)
    assert os.path.lexists(tmp_path / "failure-2.txt")
    assert os.readlink(tmp_path / "failure-1.txt") == "nowhere"


def test_a_run_goes_on_only_where_its_files_can_be_written(tmp_path: Path) -> None:
    run_folder.require_writable(tmp_path)
    (tmp_path / CONFIG_NAME).symlink_to("elsewhere")  # which is replaced
    run_folder.require_writable(tmp_path)
    os.mkfifo(tmp_path / MODEL_NAME)
    with pytest.raises(RankwiseError, match=rf"^resume: \S+/{MODEL_NAME} cannot be written \(is a "):
        run_folder.require_writable(tmp_path)


def test_a_folder_in_which_a_link_has_the_name_of_a_file_is_not_taken(tmp_path: Path) -> None:
    for name in (LOG_NAME, CONFIG_NAME):
        (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(RankwiseError, match="holds"):
            run_folder.make_folder(str(tmp_path), "a")
        (tmp_path / name).unlink()


def test_links_that_killed_jobs_left_beside_latest_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("old", "new"):
        (runs / f".latest-{name.encode().hex():0>12}").symlink_to("nowhere")
    (runs / ".latest-0123456789ab").touch()  # no link
    old = runs / f".latest-{b'old'.hex():0>12}"
    then = time.time() - 2 * run_folder.LINK_LEFT_S
    os.utime(old, (then, then), follow_symlinks=False)
    os.utime(runs / ".latest-0123456789ab", (then, then))
    run_folder.make_folder("", "a")
    assert not os.path.lexists(old)
    assert len([path for path in runs.iterdir() if path.name.startswith(".latest-")]) == 2


@pytest.mark.parametrize("kind", LINKS)
def test_watchdogs_write_through_no_link(kind: str, planted: tuple[Path, Path]) -> None:
    folder, precious = planted

    class Rank:
        def ask_for_stack(self) -> int:
            return -1

        def read_stack(self, start: int) -> str:
            return "a stack"

    LINKS[kind](precious, folder / "stack-1.txt")
    stalls = object.__new__(StallDetector)
    vars(stalls).update(ranks={1: Rank()}, _stacks={})
    stalls._collect_stacks([1], folder)
    assert read_small(folder / "stack-1.txt", own=True) == b"a stack"
    LINKS[kind](precious, folder / "progress-01234567")
    exchange = RowExchange([StatusRow()])
    with pytest.raises(OSError, match="link"):
        exchange.exchange(folder / "progress-01234567", 0.0, [], [0])
    membership._mark_lost(folder, {0})
    assert precious.read_text() == "precious"
