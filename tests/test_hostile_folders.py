"""Run folders in which files are not what they seem: each reader answers at once, in bounded memory."""

import importlib
import itertools
import os
import shutil
from pathlib import Path

import pytest

from common.run_files import (
    FAILURE_NAME,
    LOG_NAME,
    MODEL_NAME,
)  # fmt: skip
from ps.coordinator.earlier_run import find_run
from ps.reader.commands import cli
from ps.reader.commands.list_runs import list_runs, run_folders
from tests.kinds import NOBODY, OTHERS, Outcome, giant, limited
from tests.synthetic import write_run
from workers.launch import examples
from workers.launch.hosts import read_hosts
from workers.launch.run_arguments import named_folder

COMMANDS = {
    "show": ["show", "runs/bad"],
    "list": ["list", "runs"],
    "report": ["report", "runs/bad", "-o", "page.html"],
    "csv": ["export", "--csv", "runs/bad"],
    "markdown": ["export", "--markdown", "runs/bad"],
    "plot": ["plot", "runs/bad", "-o", "pictures"],
    "compare": ["compare", "runs/good", "runs/bad"],
    "trace": ["trace", "runs/bad", "-o", "trace.json"],
    "whatif": ["whatif", "runs/bad"],
    "watch": ["watch", "runs/bad"],
}
OTHER = [name for name in COMMANDS if name not in ("show", "list", "watch")]
TOO_MUCH = "has more than 1048576 bytes"
SAYS_THE_DEATH = ("show", "list", "report", "markdown", "compare", "watch")


def command(name: str, folder: Path) -> Outcome:
    """Run a command of the log in a folder, with limits."""
    return limited(lambda: cli.main(COMMANDS[name]), folder)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two runs, of which one died, and go to the folder above it."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "good", epochs=2, ranks=2)
    write_run(tmp_path / "runs" / "bad", epochs=2, ranks=2, end="")
    for name in ("compare", "export", "plot", "report", "show", "trace", "watch", "whatif"):
        importlib.import_module(f"ps.reader.commands.{name}")  # here, and not after each fork
    return tmp_path / "runs"


def table(outcome: Outcome) -> str:
    return " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(("show", "list", "watch"), OTHERS), *((name, "a named pipe") for name in OTHER)],
)
def test_a_log_that_is_no_file_is_one_message(name: str, kind: str, runs: Path) -> None:
    (runs / "bad" / LOG_NAME).unlink()
    OTHERS[kind](runs / "bad" / LOG_NAME)
    found = command(name, runs.parent)
    if name == "list":
        assert (found.code, found.err) == (0, "")
        assert f"{LOG_NAME} cannot be read ({kind}" in table(found).replace("(is ", "(")
        assert "good" in found.out
    else:
        assert found.code == 1, found
        assert found.out == ""
        path = Path("runs/bad") / LOG_NAME
        assert found.err.startswith(f"rankwise: {path}: cannot be read ("), found.err
        assert kind in found.err
        assert found.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.any_mpi
@pytest.mark.parametrize("name", COMMANDS)
def test_a_log_without_an_end_costs_no_time(name: str, runs: Path) -> None:
    giant(runs / "bad" / LOG_NAME)
    found = command(name, runs.parent)
    said = table(found) if name == "list" else found.err
    assert "nothing but zeros" in said, found
    if name != "watch":
        found = limited(lambda: cli.main([*COMMANDS[name], "--salvage"]), runs.parent)
        assert "nothing but zeros" in (table(found) if name == "list" else found.err), found


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(("show", "list", "watch"), (*OTHERS, TOO_MUCH)), *((name, TOO_MUCH) for name in OTHER)],
)
def test_a_last_message_that_cannot_be_read_is_named(name: str, kind: str, runs: Path) -> None:
    OTHERS.get(kind, giant)(runs / "bad" / FAILURE_NAME)
    found = command(name, runs.parent)
    assert found.code == (1 if name == "watch" else 0), found
    assert "Traceback" not in found.err
    page = Path("page.html").read_text(encoding="utf-8") if name == "report" else ""
    if name in SAYS_THE_DEATH:
        assert "died" in found.out + page
    if name in ("show", "list", "watch"):
        assert f"{FAILURE_NAME} cannot be read (" in table(found)
        assert kind in table(found)


@pytest.mark.parametrize("kind", [*OTHERS, "not a zip file"])
def test_a_model_that_cannot_be_read_is_a_warning(kind: str, runs: Path) -> None:
    OTHERS.get(kind, giant)(runs / "bad" / MODEL_NAME)
    found = command("compare", runs.parent)
    assert found.code == 0
    assert found.err.startswith(f"rankwise: warning: runs/bad/{MODEL_NAME} cannot be read")
    assert kind in found.err
    assert found.err.count("\n") == 1


def test_list_goes_on_whatever_is_in_a_folder_of_runs(runs: Path) -> None:
    (runs / "latest").symlink_to("good")
    (runs / "loop").symlink_to("loop")
    (runs / "gone").symlink_to("nowhere")
    (runs / "notes.txt").touch()
    (runs / "empty").mkdir()
    os.mkfifo(runs / "pipe")
    (runs / "dangling").mkdir()
    (runs / "dangling" / LOG_NAME).symlink_to("nowhere")
    found = command("list", runs.parent)
    assert (found.code, found.err) == (0, "")
    names = [line.split()[0] for line in found.out.splitlines()[1:] if line.startswith(tuple("abcdefghijklmnop"))]
    assert sorted(set(names) - {"run"}) == ["bad", "dangling", "good", "loop"]
    assert "cannot be read (Too many levels of symbolic links)" in table(found)


def test_a_folder_of_somebody_else_is_a_row(runs: Path) -> None:
    (runs / "bad").chmod(0)
    try:
        if os.geteuid():
            found = command("list", runs.parent)
        else:
            shown = Path(os.path.realpath(shutil.copytree(runs, f"/tmp/rankwise-{os.getpid()}-runs")))
            try:
                shown.chmod(0o755)
                (shown / "bad").chmod(0)
                found = limited(lambda: list_runs(shown), runs.parent, user=NOBODY)
            finally:
                shutil.rmtree(shown)
        assert (found.code, found.err) == (0, "")
        assert "cannot be read (Permission denied)" in table(found)
        assert "good" in found.out
    finally:
        (runs / "bad").chmod(0o755)


def test_many_folders_take_memory_for_the_runs_among_them_only(tmp_path: Path) -> None:
    for number in range(1_000):
        (tmp_path / f"empty-{number}").mkdir()
    write_run(tmp_path / "run", epochs=1)
    (tmp_path / "latest").symlink_to("run")
    assert run_folders(tmp_path) == [(tmp_path / "run", "")]


def test_the_newest_run_is_found_beside_folders_of_somebody_else(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "bad" / "checkpoint-1.npz").touch()
    (runs / "good" / "checkpoint-1.npz").touch()
    listed = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == "good":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert find_run("auto", "") == Path("runs/bad")


@pytest.mark.parametrize("kind", [*OTHERS, "has more than"])
def test_files_that_options_name_are_read_only_if_they_are_small_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    OTHERS.get(kind, giant)(path)
    found = limited(lambda: read_hosts("", str(path), 2), tmp_path)
    assert "ConfigError: hostfile: " in found.err.splitlines()[-1]
    assert kind in found.err
    assert limited(lambda: bool(named_folder(["--config", str(path)], {})), tmp_path).code == 0


def test_examples_are_copied_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    name = next(iter(examples.sources()))
    (tmp_path / name).symlink_to("precious")
    examples.copy(tmp_path, overwrite=True)
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / name).read_bytes() == examples.sources()[name].read_bytes()
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    found = limited(lambda: examples.copy(tmp_path), tmp_path)
    assert "would be overwritten" in found.err.splitlines()[-1]
