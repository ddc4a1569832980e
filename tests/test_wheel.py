"""The wheel holds exactly the three packages and works outside the checkout, data included."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.ranks import environment, finish, mpirun, popen

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheels = str(tmp_path / "wheels")
    subprocess.run([*pip, "wheel", "--no-deps", "-q", "-w", wheels, str(ROOT)], check=True, timeout=200)
    (wheel,) = (tmp_path / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        tops = {name.split("/")[0] for name in names}
        licences = [name for name in names if name.endswith(("LICENSE", "NOTICE"))]
    assert tops == {"common", "ps", "workers", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert len(licences) == 2
    assert {f"ps/reader/report/page.{ending}" for ending in ("html", "css", "js")} <= names
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "-q", "--target", str(target), str(wheel)], check=True, timeout=100)
    env = environment(PYTHONPATH=str(target))
    where = finish(popen([sys.executable, "-c", "import common; print(common.__file__)"], env=env, cwd=tmp_path))
    assert where.out.strip() == str(target / "common" / "__init__.py")
    result = mpirun(2, "-m", "workers.run", "--epochs", "1", env=env, cwd=tmp_path)
    assert result.code == 0, result.err
    assert "Test: loss" in result.out
