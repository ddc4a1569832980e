"""A site's own MPI: which library belongs to the launcher, and whether the line to enter makes training work."""

import os
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import need
from tests.ranks import MPIRUN, Result, environment, finish, popen, records
from workers.launch import mpi_library
from workers.launch.launcher_kind import MPICH, OPEN_MPI
from workers.launch.mpi_library import UsedLauncher

HYDRA = "HYDRA build details:\n    Version:                                 4.0.2\n"
OPEN_RTE = "mpirun (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
DT_SONAME, PT_DYNAMIC = 14, 2
NEEDS_NO_MPI = (
    ("workers.run", "--help"), ("workers.bench", "--help"), ("workers.compare", "--help"),
    ("workers.supervise", "--help"), ("ps.log", "--help"), ("ps.log", "show", "--help"),
)  # fmt: skip


def rename(source: Path, target: Path) -> None:
    """Copy a shared library, and have it call itself otherwise, as Debian does with MPICH's."""
    data = bytearray(source.read_bytes())
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, start + size * k) for k in range(count)]
    ((_, _, place, _, _, length),) = [header for header in headers if header[0] == PT_DYNAMIC]
    for at in range(place, place + length, 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == DT_SONAME:
            struct.pack_into("<QQ", data, at, tag, value + 1)  # without the first letter
    target.write_bytes(data)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return the Python of an environment without an MPI library; it finds all else by PYTHONPATH."""
    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    return folder / "bin" / "python"


def variables(**changes: str) -> dict[str, str]:
    env = environment(**changes)
    return {**env, "PYTHONPATH": f"{env['PYTHONPATH']}:{sysconfig.get_path('purelib')}"}


def run(folder: Path, command: list[str], path: str = "/usr/bin:/bin", **changes: str) -> Result:
    return finish(popen(command, cwd=folder, env=variables(PATH=path, **changes)))


def test_a_line_makes_an_mpich_of_another_name_work(tmp_path: Path, bare: Path, mpi: str) -> None:
    """As Debian's: libmpich.so.12, which mpi4py does not take by any variable alone."""
    if mpi != "mpich":
        pytest.skip("it is about MPICH")
    need(shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin"), "ldconfig")
    site, own = tmp_path / "site", Path(sys.prefix)
    (site / "lib").mkdir(parents=True)
    (site / "bin").mkdir()
    for name in ("mpirun", "hydra_pmi_proxy"):
        shutil.copy(own / "bin" / name, site / "bin" / name)
    rename(own / "lib" / "libmpi.so.12", site / "lib" / "libmpich.so.12")
    depends = {"LD_LIBRARY_PATH": str(own / "lib" / "mpich")}  # what the wheel's library needs
    command = [str(site / "bin" / "mpirun"), "-np", "2", str(bare), "-m", "workers.run", "--epochs", "1"]
    refused = run(tmp_path, command, **depends)
    assert refused.code == 2
    assert refused.err.count("rankwise:") == 1
    said, _, line = refused.err.rstrip().partition("; enter this line: ")
    library = f"{site}/lib/libmpich.so.12 (MPICH "
    assert said.startswith(
        f"rankwise: no MPI library found where Python looks, but MPICH's launcher in {site}/bin belongs to {library}"
    )
    assert f"{site}/lib/libmpich.so.12 {bare.parent.parent}/lib/mpich-abi/libmpi.so.12 && export MPI4PY_LIBMPI=" in line
    script = f"{line}\n{shlex.join(command)} --output run"
    trained = run(tmp_path, ["bash", "-c", script], **depends)
    assert trained.code == 0, trained.err
    header = records(tmp_path / "run")[0]
    assert header["world"] == 2


def test_a_line_makes_a_library_elsewhere_work(tmp_path: Path, bare: Path) -> None:
    path = f"{sys.prefix}/bin:/usr/bin:/bin"
    command = [str(bare), "-m", "workers.run", "--epochs", "1", "--hidden", "8", "--output", "run"]
    refused = run(tmp_path, command, path)
    assert refused.code == 2
    _, found, line = refused.err.rstrip().partition("; enter this line: ")
    assert found, refused.err
    assert shlex.split(line)[1].startswith(f"MPI4PY_LIBMPI={sys.prefix}/lib/libmpi.so.")
    assert run(tmp_path, ["bash", "-c", f"{line}\n{shlex.join(command)}"], path).code == 0


@pytest.mark.parametrize("setting", ["/nowhere/libmpi.so.12", "{}/text.so"])
def test_a_wrong_setting_is_named(tmp_path: Path, bare: Path, setting: str) -> None:
    (tmp_path / "text.so").write_text("no library")
    asked = setting.format(tmp_path)
    result = run(tmp_path, [str(bare), "-m", "workers.run"], "/nowhere", MPI4PY_LIBMPI=asked)
    assert result.code == 2
    why = "which does not exist" if "nowhere" in setting else "which does not load ("
    assert result.err.startswith(f"rankwise: no MPI library found: MPI4PY_LIBMPI names {asked}, {why}")
    assert result.err.endswith(
        "and no mpirun; pip install 'rankwise[mpich]' brings one, or load your site's MPI module\n"
    )
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_what_needs_no_mpi_works_without(tmp_path: Path) -> None:
    nothing = {"MPI4PY_LIBMPI": "/nowhere"}
    for module, *arguments in NEEDS_NO_MPI:
        result = run(tmp_path, [sys.executable, "-m", module, *arguments], **nothing)
        assert result.code == 0, (module, result.err)
        assert "Usage: " in result.out
        assert result.err == ""
    assert run(tmp_path, [sys.executable, "-m", "workers.run", "--version"], **nothing).code == 0
    for module, *arguments in (
        ("workers.run", "--mode", "allreducc"), ("workers.run", "--epoch", "1"), ("workers.bench", "--layers", "x"),
        ("workers.compare", "--modes", "x"),
    ):  # fmt: skip
        result = run(tmp_path, [sys.executable, "-m", module, *arguments], **nothing)
        assert (result.code, result.out) == (2, "")
        assert "MPI" not in result.err
        assert result.err.count("rankwise:") == 1
    other = run(tmp_path, [sys.executable, "-m", "workers.run", "--help"], PMI_RANK="1", PMI_SIZE="2", **nothing)
    assert (other.code, other.out, other.err) == (0, "", "")


def test_names_of_modes_without_mpi_are_those_of_the_table() -> None:
    from ps.sync import mode_names, modes

    assert mode_names.read() == modes.help_lines()


Tools = Callable[..., Path]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Make programs in a folder ``bin`` that print a text each; the PATH is that folder and what a shell needs."""

    def make(**said: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, text in said.items():
            (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return folder

    return make


@pytest.mark.parametrize(("said", "vendor"), [(HYDRA, MPICH), (OPEN_RTE, OPEN_MPI), ("prterun (PRRTE) 3.0", OPEN_MPI)])
def test_whose_a_launcher_is(tools: Tools, said: str, vendor: str) -> None:
    folder = tools(mpirun=said)
    assert mpi_library.used_launcher() == UsedLauncher(str(folder / "mpirun"), vendor)


def test_a_parent_that_may_not_be_looked_at_is_no_launcher(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first process of a container often is."""

    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    folder = tools(mpirun=HYDRA)
    monkeypatch.setattr(os, "readlink", refuse)
    assert mpi_library.used_launcher() == UsedLauncher(str(folder / "mpirun"), MPICH)


def test_no_launcher_that_is_known(tools: Tools) -> None:
    tools(mpirun="hello", mpiexec="hello")
    assert mpi_library.used_launcher() is None


def files(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)


def test_libraries_are_looked_for_beside_the_launcher_by_the_compiler_and_by_ldconfig(
    tmp_path: Path, tools: Tools
) -> None:
    files(
        tmp_path,
        "lib/libmpi.so.40",
        "lib/x86_64-linux-gnu/libmpich.so.12",
        "cray/libmpi_gnu_91.so.12",
        "a/libmpi.so.12",
    )
    folder = tools(
        mpirun=HYDRA,
        mpicc=f"gcc -I/x -L{tmp_path}/cray -Wl,-rpath -Wl,{tmp_path}/none -lmpi",
        ldconfig=f"2 libs found\n\tlibmpi.so.12 (libc6,x86-64) => {tmp_path}/a/libmpi.so.12\n"
        f"\tlibmpi.so.40 (libc6,x86-64) => {tmp_path}/lib/libmpi.so.40\n",
    )
    found = list(mpi_library.libraries(UsedLauncher(str(folder / "mpirun"), MPICH)))
    ours = [path for path in found if path.startswith(str(tmp_path))]
    assert [os.path.relpath(path, tmp_path) for path in ours] == [
        "lib/x86_64-linux-gnu/libmpich.so.12", "cray/libmpi_gnu_91.so.12", "a/libmpi.so.12"
    ]  # fmt: skip
    open_mpi = list(mpi_library.libraries(UsedLauncher(str(folder / "mpirun"), OPEN_MPI)))
    assert open_mpi[0] == f"{tmp_path}/lib/libmpi.so.40"


@pytest.mark.parametrize(
    ("vendor", "option", "said"),
    [
        (OPEN_MPI, "--showme:link", "-L/opt/mpi/lib -Wl,-rpath -Wl,/opt/mpi/lib -lmpi"),
        (MPICH, "-show", "gcc -I/x -L/opt/mpi/lib -Wl,-rpath,/opt/mpi/lib64 -lmpich"),
    ],
)
def test_where_compilers_link(tmp_path: Path, vendor: str, option: str, said: str) -> None:
    script = tmp_path / "mpicc"
    script.write_text(f"#!/bin/sh\n[ $1 = {option} ] && echo '{said}'\n")
    script.chmod(0o755)
    found = mpi_library._linked_folders(UsedLauncher(str(tmp_path / "mpirun"), vendor))
    assert found[0] == "/opt/mpi/lib"


def test_a_line_that_does_not_work_is_not_shown(tmp_path: Path, tools: Tools) -> None:
    files(tmp_path, "lib/libmpi.so.12", "lib/libmpich.so.12")
    folder = tools(mpirun=HYDRA, ldconfig="")
    assert mpi_library.line_to_enter(UsedLauncher(str(folder / "mpirun"), MPICH)) == ("", "")


def test_the_launcher_of_these_tests_has_a_library(mpi: str) -> None:
    vendor = MPICH if mpi == "mpich" else OPEN_MPI
    library, line = mpi_library.line_to_enter(UsedLauncher(MPIRUN, vendor))
    assert library.startswith(f"{sys.prefix}/lib/libmpi.so.")
    assert vendor in library
    assert shlex.split(line) == ["export", f"MPI4PY_LIBMPI={library.rpartition(' (')[0]}"]
