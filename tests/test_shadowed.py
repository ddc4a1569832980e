"""Files of the user's that hide modules which rankwise needs: one message before any of them is imported."""

import sys
from pathlib import Path

import pytest

from common import shadowed
from tests.conftest import ROOT
from tests.ranks import Result, environment, finish, mpirun, popen
from tests.test_imports import MODULES, imports

RUN = ("-m", "workers.run", "--version")
REMEDY = "start in another folder, or set PYTHONSAFEPATH=1: Python then looks there last\n"


def python(folder: Path, *arguments: str, **variables: str) -> Result:
    return finish(popen([sys.executable, *arguments], cwd=folder, env=environment(**variables)))


def write(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise RuntimeError('it was imported')\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["common/__init__.py"], "common in {} hides rankwise's own package common; rename it, "),
        (["common.py"], "common.py in {} hides rankwise's own package common; rename it, "),
        (["ps/__init__.py"], "ps in {} hides rankwise's own package ps; rename it, "),
        (["ps.py"], "ps.py in {} hides rankwise's own package ps; rename it, "),
        (["numpy.py"], "numpy.py in {} hides the installed package numpy, which rankwise needs; rename it, "),
        (["mpi4py/__init__.py"], "mpi4py in {} hides the installed package mpi4py, which rankwise needs; rename it, "),
        (["msgpack.py"], "msgpack.py in {} hides the installed package msgpack, which rankwise needs; rename it, "),
        (["random.py"], "random.py in {} hides Python's own module random, which rankwise needs; rename it, "),
        (["logging/__init__.py"], "logging in {} hides Python's own module logging, which rankwise needs; rename it, "),
        (
            ["ps.py", "rich.py", "socket.py"],
            "ps.py and rich.py and socket.py in {} hide rankwise's own package ps and the installed package rich and "
            "Python's own module socket, which rankwise needs; rename them, ",
        ),
    ],
)
def test_what_is_hidden_is_told_and_nothing_of_it_imported(tmp_path: Path, files: list[str], said: str) -> None:
    write(tmp_path, *files)
    result = python(tmp_path, *RUN)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"rankwise: {said.format(tmp_path)}{REMEDY}"


@pytest.mark.parametrize(
    "command",
    ["workers.bench", "workers.compare", "workers.supervise", "workers.prepare", "workers.evaluate", "workers.export",
     "ps.log"],
)  # fmt: skip
def test_every_command_tells_it(tmp_path: Path, command: str) -> None:
    write(tmp_path, "common/__init__.py", "csv.py")
    result = python(tmp_path, "-m", command, "--help")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"rankwise: common and csv.py in {tmp_path} hide rankwise's own package common and ")
    assert "Traceback" not in result.err


def test_only_a_reader_needs_its_libraries(tmp_path: Path) -> None:
    write(tmp_path, "plotly.py", "workers/__init__.py")
    assert "the installed package plotly" in python(tmp_path, "-m", "ps.log", "--help").err
    (tmp_path / "workers" / "__init__.py").unlink()
    (tmp_path / "workers").rmdir()
    assert python(tmp_path, *RUN).code == 0


def test_ranks_end_together_with_one_message(tmp_path: Path) -> None:
    write(tmp_path, "ps/__init__.py")
    result = mpirun(3, *RUN, cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert "Traceback" not in result.err


def test_the_remedy_works_also_for_a_model_in_the_same_folder(tmp_path: Path) -> None:
    write(tmp_path, "common/__init__.py", "workers/__init__.py", "random.py")
    (tmp_path / "own.py").write_text((ROOT / "docs" / "examples" / "own_model.py").read_text())
    options = ("--model", "own:SkipNet", "--epochs", "1", "--output", "run")
    result = python(tmp_path, "-m", "workers.run", *options, PYTHONSAFEPATH="1")
    assert result.code == 0, result.err


def test_what_hides_nothing_is_left_alone(tmp_path: Path) -> None:
    """A folder without __init__.py comes after all others; turtle is not needed; a table is no module."""
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "config.py").write_text("")
    write(tmp_path, "turtle.py", "random.csv", "train.py", "time.py")  # time is part of the interpreter
    result = python(tmp_path, *RUN)
    assert result.code == 0, result.err
    assert python(ROOT, *RUN).code == 0
    assert python(ROOT / "common", *RUN).code == 0


def test_a_package_on_pythonpath_is_told_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, "common/__init__.py")
    here = tmp_path / "here"
    here.mkdir()
    result = python(here, *RUN, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert result.code == 2
    assert result.err == (
        f"rankwise: common in {tmp_path} hides rankwise's own package common; take {tmp_path} out of PYTHONPATH\n"
    )


def test_all_that_we_import_is_looked_for() -> None:
    early = {"__future__", "sys"}  # in the interpreter
    of_programs = [ROOT / "workers" / "estimator.py", *(ROOT / "workers" / "estimators").iterdir()]  # not of commands
    of_children = {"polars", "pandas"}  # which do not look in the current folder
    known = shadowed.STANDARD | shadowed.NEEDED | shadowed.FOR_READERS | shadowed.FOR_EXPORT | of_children
    for path in (path for path in MODULES if path not in of_programs):
        names = {name.partition(".")[0] for name in imports(path)} - {"common", "ps", "workers", "slurm"} - early
        assert names <= known, path


@pytest.mark.parametrize("command", ["workers.predict", "workers.export"])
def test_what_one_command_needs_is_in_the_way_of_that_one_alone(tmp_path: Path, command: str) -> None:
    write(tmp_path, "onnx.py", "polars.py")
    result = python(tmp_path, "-m", command, "--help")
    hidden = command == "workers.export"
    assert result.code == (2 if hidden else 0)
    assert result.err == (
        f"rankwise: onnx.py in {tmp_path} hides the installed package onnx, which rankwise needs; rename it, {REMEDY}"
        if hidden
        else ""
    )
