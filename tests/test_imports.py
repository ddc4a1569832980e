"""Who may import whom: workers -> ps -> common; MPI only where it belongs; nothing that a pickle could ride on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [path for package in ("common", "ps", "workers") for path in sorted((ROOT / package).rglob("*.py"))]
ALLOWED = {"common": {"common"}, "ps": {"ps", "common"}, "workers": {"workers", "ps", "common"}}
LIBRARIES = {
    "common": {"numpy"},
    "ps": {"numpy", "msgpack", "mpi4py"},
    "ps/reader": {"numpy", "msgpack", "rich", "cyclopts", "jinja2", "plotly", "matplotlib", "tensorboardX"},
    "workers": {"numpy", "msgpack", "mpi4py", "threadpoolctl", "cyclopts"},
}
WITHOUT_MPI = ["ps/log.py", "ps/logfile/records.py", "ps/coordinator/outputs.py", "ps/coordinator/coordinator.py", "workers/__init__.py",
               "workers/training/loop.py", "workers/launch/run_options.py", "workers/launch/signals.py", "workers/watchdog/watchdog.py",
               "workers/watchdog/stalls.py", "workers/watchdog/rank_process.py", "common/run_files.py",
               *(f"workers/supervise/{p.name}" for p in (ROOT / "workers" / "supervise").glob("*.py"))]  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    import sys

    place = path.relative_to(ROOT)
    package = place.parts[0]
    tops = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    ours = tops & set(ALLOWED)
    assert ours <= ALLOWED[package]
    assert tops - ours <= LIBRARIES["ps/reader" if "reader" in place.parts else package]
    assert {"pickle", "shelve", "marshal", "dill"}.isdisjoint(imports(path))


def test_world_is_named_once() -> None:
    users = [
        path.relative_to(ROOT) for path in MODULES if "COMM_WORLD" in path.read_text().replace("OMPI_COMM_WORLD", "")
    ]
    assert users == [Path("workers/launch/mpi.py")]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickling_calls(path: Path) -> None:
    """Lower-case communication of mpi4py pickles; NumPy does when allowed to."""
    lower = {"send", "recv", "isend", "irecv", "bcast", "gather", "allgather", "scatter", "alltoall", "reduce",
             "allreduce", "sendrecv"}  # fmt: skip
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in lower:
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            assert name not in ("comm", "local", "world"), f"{path}:{node.lineno}: comm.{node.func.attr} pickles"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.literal_eval(node.value) is False


def test_our_packages_are_not_shadowed() -> None:
    import common
    import ps
    import workers

    for package in (common, ps, workers):
        assert str(package.__file__).endswith(f"{package.__name__}/__init__.py")
        assert (Path(str(package.__file__)).parent.parent / "common" / "data" / "digits.npz").exists()


@pytest.mark.parametrize("name", WITHOUT_MPI)
def test_modules_without_mpi(name: str) -> None:
    assert "mpi4py" not in set(imports(ROOT / name))
