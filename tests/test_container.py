"""The container recipe: built with Apptainer where there is one, and started as ranks of an mpirun outside of it."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from common.version import VERSION
from tests.conftest import ROOT
from tests.ranks import MPIRUN, environment, finish, popen, records

RECIPE = ROOT / "docs" / "apptainer.def"
NOT_HERE = "capability|Operation not permitted|operation not permitted|user namespace|fakeroot"
"""What Apptainer says where a machine does not let it build."""


def test_the_recipe_installs_this_checkout_and_leaves_no_path_of_the_host() -> None:
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", RECIPE.read_text(), re.MULTILINE | re.DOTALL))
    assert set(sections) == {"files", "post", "environment", "runscript", "test", "help"}
    assert sections["files"].split() == ["dist", "/opt/dist"]
    assert 'exec rankwise "$@"' in sections["runscript"]


@pytest.mark.parametrize(("wheels", "installed"), [(("rankwise-1.whl",), 1), (("rankwise-1.whl", "rankwise-2.whl"), 0)])
def test_the_wheel_of_the_checkout_is_installed_not_one_of_that_name(
    tmp_path: Path, wheels: tuple[str, ...], installed: int
) -> None:
    post = re.search(r"^%post\n(.*?)^%", RECIPE.read_text(), re.MULTILINE | re.DOTALL)
    assert post
    pip = tmp_path / "venv" / "bin" / "pip"
    for path in (pip, *(tmp_path / "dist" / wheel for wheel in wheels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\necho "pip $@"\n')
        path.chmod(0o755)
    steps = post[1].replace("/opt/", f"{tmp_path}/").replace("python3 -m venv", "test -d")
    result = finish(popen(["sh", "-e", "-c", steps], env=environment()))
    assert result.out.count(f"pip install --no-cache-dir {tmp_path}/dist/rankwise-1.whl[mpich]") == installed
    assert result.code == (0 if installed else 1), result.err


@pytest.mark.slow
@pytest.mark.any_mpi
@pytest.mark.timeout(900)
def test_the_image_is_built_and_its_ranks_find_each_other(tmp_path: Path) -> None:
    for tool in ("apptainer", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; Debian 12 has no apptainer, Debian's unstable has")
    if os.getuid():
        pytest.skip("debootstrap needs root")
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path / "dist"), str(ROOT)]
    assert finish(popen(wheel, env=dict(os.environ)), timeout=120).code == 0
    image = str(tmp_path / "rankwise.sif")
    built = finish(popen(["apptainer", "build", image, str(RECIPE)], env=dict(os.environ), cwd=tmp_path), timeout=600)
    if built.code and (why := re.search(f".*(?:{NOT_HERE}).*", built.err)):
        pytest.skip(f"this machine does not let Apptainer build: {why[0][:200]}")
    assert built.code == 0, built.err[-2000:]
    inside = ["apptainer", "exec", "--sharens", "--bind", str(tmp_path), image]
    version = finish(popen([*inside, "rankwise", "--version"], env=environment(), cwd=tmp_path), timeout=60)
    assert version.out.startswith(f"rankwise {VERSION} on Python "), version.err
    train = ["python", "-m", "workers.run", "--epochs", "1", "--hidden", "8", "--output", "run"]
    result = finish(popen([MPIRUN, "-np", "2", *inside, *train], env=environment(), cwd=tmp_path), timeout=120)
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["world"] == 2
