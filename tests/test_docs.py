"""The documentation says what is true: commands, links, fields."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.logfile.epoch_fields import markdown_table
from ps.sync.modes import MODES
from tests.ranks import Result, environment, epochs, records
from tests.real_sets import SETS

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
REAL_SETS = (ROOT / "docs" / "data.md").read_text().partition("## Real sets")[2]
Job = Callable[..., Result]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for code in re.findall(r"`((?:docs|tests|slurm|common|ps|workers)/[\w/.-]+)`", page.read_text()):
        assert (ROOT / code).exists(), code


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    assert commands[1] in script
    set_up, main_job = commands[0].rsplit(" && ", 1)
    assert main_job in script
    assert set_up.replace("'.[mpich]'", "'.[mpich,test]'") in script


@pytest.mark.parametrize(
    ("codes", "calls", "end"),
    [((0,), 1, 0), ((1, 0), 2, 0), ((1, 1), 2, 1), ((2, 0), 1, 2), ((4, 0), 1, 4), ((5, 0), 1, 5)],
)
def test_ci_tries_again_only_when_all_tests_have_run(
    tmp_path: Path, codes: tuple[int, ...], calls: int, end: int
) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    function = re.search(r"^pytest\(\) \{\n.*?^\}\n", script, re.DOTALL | re.MULTILINE)
    assert function
    fake = tmp_path / "pytest"
    fake.write_text(f'#!/bin/sh\necho "$@" >>calls\nset -- {" ".join(map(str, codes))}\n'
                    '[ "$(wc -l <calls)" = 1 ] || shift\nexit "$1"\n')  # fmt: skip
    fake.chmod(0o755)
    lines = ["set -euo pipefail", f'PATH="{tmp_path}:$PATH"', function[0], "true && pytest || exit", "echo went on"]
    result = subprocess.run(["bash", "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == end
    assert (result.stdout == "went on\n") == (end == 0)
    asked = (tmp_path / "calls").read_text().splitlines()
    assert len(asked) == calls
    assert ["--last-failed" in words for words in asked] == [False, True][:calls]


def test_readme_has_every_mode() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"| `{mode}`" in readme for mode in MODES)


def test_log_format_names_every_field(job: Job, tmp_path: Path, reference_run: Path) -> None:
    assert job(2, "--patience", "1", "--learning-rate", "0.1").code == 0
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "log-format.md").read_text(), flags=re.DOTALL)
    known = set(re.findall(r"`([^`]+)`", text))
    for record in records(reference_run) + records(tmp_path / "run"):
        found = set(record)
        if record["kind"] == "header":
            found |= {k for part in ("threads", "blas", "mpi", "versions", "data", "model", "timing", "contribution")
                      for k in record[part]} | set(record["nodes"][0]) | set(record["data"]["rows"])  # fmt: skip
        assert found - known == set()
        assert record["kind"] in known


def test_the_reader_in_the_documentation_reads(job: Job, tmp_path: Path) -> None:
    assert job(2, "--epochs", "2", "--hidden", "4", "--output", "runs/a").code == 0
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "log-format.md").read_text(), re.DOTALL)
    assert code
    result = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, env=environment(), capture_output=True,
                            text=True, check=True)  # fmt: skip
    expected = [f"{e['epoch']} {e['loss']} {e['share_all']} {e['wait_s']}" for e in epochs(tmp_path / "runs" / "a")]
    assert result.stdout.splitlines() == expected


def test_the_table_of_epoch_figures_is_made_from_their_list() -> None:
    """``python -m ps.logfile.epoch_fields`` prints it."""
    page = (ROOT / "docs" / "log-format.md").read_text()
    assert f"## `epoch`\n\n{markdown_table()}\n" in page


@pytest.mark.parametrize("name", SETS)
def test_data_page_shows_the_options_of_each_real_set(name: str) -> None:
    _, data, *options = SETS[name].arguments(Path())
    assert f"| {name} |" in REAL_SETS
    assert f"| `{data} {' '.join(options)}` |" in REAL_SETS
