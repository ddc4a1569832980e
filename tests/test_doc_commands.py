"""Every command of README and docs runs as it is written, and prints lines of the shape that the page shows."""

import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.doc_commands import Command, commands, differences, in_sentences
from tests.idx_bytes import idx
from tests.ranks import Result, environment, finish, popen

EXAMPLES = ROOT / "docs" / "examples" / "README.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), EXAMPLES]
ELSEWHERE = {
    r"python3 -m venv": "set-up: .ci/run runs it on a bare machine",
    r"pip install": "set-up: as above",
    r"git clone": "set-up: as above",
    r"ruff|mypy": ".ci/run runs them",
    r"python -m tests\.(benchmarks|faults)": "measures for minutes to hours",
    r"sbatch": "tests/slurm/ runs them on a real Slurm",
    r"rankwise submit": "tests/slurm/test_submit.py submits such jobs",
    r"tail -f": "never ends",
    r"python -m ps.log watch runs/latest": "as sbatch, of whose job it reads the log",
}
"""Commands that are run somewhere else or not at all, and why."""
CODES = {r"--inject (nan|hang|die|diverge)": (1, 9, 137)}
"""Exit codes of commands that are meant to fail; a rank that dies has its launcher's code."""
PLACEHOLDERS = ((r"-np N\b", "-np 2"), (r"--mode MODE\b", "--mode shared"))
SHORTER = ((r"workers\.compare\b", r"\g<0> --trials 3"), (r"workers\.bench\b", r"\g<0> --rounds 3"))
"""What measures need not be as sure of its figures here as where they count."""


def elsewhere(command: Command) -> str:
    """Return why a command is not run here, or nothing."""
    return next((why for pattern, why in ELSEWHERE.items() if re.match(pattern, command.text)), "")


def test_each_exception_is_needed() -> None:
    texts = [command.text for page in PAGES for command in commands(page)]
    for pattern in ELSEWHERE:
        assert any(re.match(pattern, text) for text in texts), pattern


def test_shapes_tell_lines_apart() -> None:
    command = Command("p.md", 1, "x", ("Epoch 1/30: loss 1.355, 0.051 s on vm", " shared   0.15  fastest", "..."))
    assert differences(command, "Epoch 2/9: loss 1e-3, 12 s on node7\n allreduce 1,015 slower\nmore\n", "node7") == []
    assert differences(command, "Epoch 2/9: loss 1e-3 on node7\n allreduce 1,015\n", "node7") == [
        "not printed: Epoch 1/30: loss 1.355, 0.051 s on vm",
        "not printed:  shared   0.15  fastest",
    ]
    folded = Command("p.md", 1, "x", ("All is well, and", "  the rest is here."))
    assert differences(folded, "All is well,\n  and the rest is here.\n", "h") == []
    whole = Command("p.md", 1, "x", ("Done: 3 rows",))
    assert differences(whole, "Done: 44 rows\n", "h") == []
    assert differences(whole, "Done: 44 rows\nRead: it\n", "h") == ["not on the page: Read: it"]


@pytest.fixture(name="folder")
def folder_of_a_user(tmp_path: Path) -> Path:
    """Return a folder like the clone that a user works in, with files of their own that the pages name."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.rankwise-cache"))
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    digits = rng.standard_normal((400, 64)), np.arange(400) % 10
    np.savez(tmp_path / "new.npz", X=digits[0], y=digits[1])
    price = 200_000 + 40_000 * x[:, 0] + 9_000 * x[:, 1] + rng.standard_normal(300)
    np.savez(tmp_path / "own.npz", X=x, y=(x[:, 0] > 0).astype(np.int64))
    np.savetxt(tmp_path / "own.csv", np.column_stack([x, price]), "%.6f", ",", header="a,b,c,price", comments="")
    for name, n in (("train", 300), ("t10k", 50)):
        images = rng.integers(0, 256, (n, 4, 4)).astype(np.uint8)
        for word, array in (("images", images), ("labels", (np.arange(n) % 10).astype(np.uint8))):
            path = tmp_path / f"{name}-{word}-idx{array.ndim}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
    (tmp_path / "run.toml").write_text("epochs = 2\n")
    return tmp_path


def fits(command: Command, mpi: str) -> bool:
    """Say whether a command is run with this MPI library: with Open MPI those that need it, with MPICH the others."""
    return (mpi == "openmpi") == bool(re.search("--with-ft|--elastic", command.text))


def run(command: Command, folder: Path) -> tuple[Result, list[str]]:
    """Run a command as it is written, but for placeholders and repeats; return how it ended, and what is wrong."""
    text = command.text
    for pattern, value in (*PLACEHOLDERS, *SHORTER):
        text = re.sub(pattern, value, text)
    env = environment(PATH=f"{sys.prefix}/bin:{os.environ['PATH']}", COLUMNS="80")
    result = finish(popen(["bash", "-c", text], cwd=folder, env=env, stdin=subprocess.DEVNULL), timeout=300)
    allowed = next((codes for pattern, codes in CODES.items() if re.search(pattern, text)), (0,))
    ends = f"{command.label}\n  ends with {result.code}: {(result.err or result.out)[-600:]}"
    return result, [] if result.code in allowed else [ends]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_in_sentences_run(folder: Path, mpi: str) -> None:
    """Those of all pages, each once, after one run."""
    if mpi == "openmpi":
        pytest.skip("run with MPICH")
    assert run(Command("", 0, "rankwise train -n 2 --epochs 2"), folder)[1] == []
    found = {command.text: command for page in PAGES for command in in_sentences(page) if fits(command, mpi)}
    assert len(found) >= 5
    assert [fault for command in found.values() for fault in run(command, folder)[1]] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run_as_written(page: Path, folder: Path, mpi: str) -> None:
    """In the order of the page: what a command reads, an earlier one may have written."""
    if page == EXAMPLES:
        subprocess.run(
            [sys.executable, "-m", "workers.rankwise", "examples", "mine"], cwd=folder, env=environment(), check=True
        )
        folder /= "mine"
    wrong = []
    for command in commands(page):
        if elsewhere(command) or not fits(command, mpi):
            continue
        result, fault = run(command, folder)
        wrong += fault
        if command.output:
            lines = differences(command, result.out + result.err, socket.gethostname())
            wrong += [f"{command.label}\n  {line}" for line in lines]
    assert not wrong, "\n".join(wrong)
