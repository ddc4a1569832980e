"""The wheel holds exactly our packages and works outside the checkout, data included."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.version import VERSION
from tests.conftest import need
from tests.ranks import environment, finish, mpirun, popen

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.any_mpi
@pytest.mark.timeout(300)
def test_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheels = str(tmp_path / "wheels")
    built = finish(popen([*pip, "wheel", "--no-deps", "-q", "-w", wheels, str(ROOT)], env=dict(os.environ)))
    need(not re.search("No matching distribution|Connection|resolution", built.err), "hatchling, which pip cannot get")
    assert built.code == 0, built.err
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        tops = {name.split("/")[0] for name in names}
        licences = [name for name in names if name.endswith(("LICENSE", "NOTICE"))]
    assert tops == {"common", "ps", "slurm", "workers", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert len(licences) == 2
    assert {f"ps/reader/report/page.{ending}" for ending in ("html", "css", "js")} <= names
    assert wheel.name.split("-")[1] == VERSION
    copied = {path.name for path in (ROOT / "docs" / "examples").iterdir() if path.is_file()}
    assert {Path(name).name for name in names if name.startswith("workers/examples/")} == copied
    scripts = {path.name for path in (ROOT / "slurm").glob("*.sbatch")}
    assert {Path(name).name for name in names if name.endswith(".sbatch")} == scripts
    copied |= scripts
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "-q", "--target", str(target), str(wheel)], check=True)
    env = environment(PYTHONPATH=str(target))
    where = finish(popen([sys.executable, "-c", "import common; print(common.__file__)"], env=env, cwd=tmp_path))
    assert where.out.strip() == str(target / "common" / "__init__.py")
    result = mpirun(2, "-m", "workers.run", "--epochs", "1", env=env, cwd=tmp_path)
    assert result.code == 0, result.err
    assert "Test: loss" in result.out
    the_command_works(str(target / "bin" / "rankwise"), env, tmp_path, copied)


def the_command_works(rankwise: str, env: dict[str, str], folder: Path, copied: set[str]) -> None:
    """Where it is installed, from a folder that has other packages of our names."""
    (folder / "common").mkdir()
    (folder / "common" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    version = finish(popen([rankwise, "--version"], env=env, cwd=folder))
    assert version.out.startswith(f"rankwise {VERSION} on Python "), version.err
    result = finish(popen([rankwise, "examples", "mine"], env=env, cwd=folder))
    assert result.code == 0, result.err
    assert {path.name for path in (folder / "mine").iterdir()} == copied
    submitted = finish(popen([rankwise, "submit", "--dry-run", "--nodes", "3"], env=env, cwd=folder))
    assert "\n#SBATCH --nodes=3\n" in submitted.out, submitted.err
    assert "\nexport PYTHONSAFEPATH=1\n" in submitted.out
    for options in (["--data", "mine/houses.csv", "--target", "price"], ["--model", "mine.own_model:SkipNet"]):
        result = finish(popen([rankwise, "train", "-n", "2", "--epochs", "1", *options], env=env, cwd=folder))
        assert result.code == 0, result.err
        assert "Test: " in result.out
