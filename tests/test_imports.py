"""Who may import whom: workers -> ps -> common; MPI only where it belongs; nothing that a pickle could ride on."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [path for package in ("common", "ps", "workers", "slurm") for path in sorted((ROOT / package).rglob("*.py"))]
DOORS = {
    "common/functional.py",
    "ps/log.py",
    "workers/run.py",
    "workers/batch_job.py",
    "workers/bench.py",
    "workers/compare.py",
    "workers/prepare.py",
    "workers/supervise.py",
    "workers/predict.py",
    "workers/evaluate.py",
    "workers/export.py",
    "workers/doctor.py",
    "workers/rankwise.py",
    "workers/estimator.py",
    "slurm/submit.py",
}
"""What users start; a door may import every room, and no room imports a door."""
_COMMON = {"common", "common/data", "common/nn", "common/evaluation"}
_READER = {"common", "ps/logfile", "ps/text", "ps/metrics", "ps/reader"}
_COORDINATOR = {"common", "common/data", "ps/logfile", "ps/text", "ps/metrics", "ps/findings"}
_TRAINING = {
    *_COMMON, *_COORDINATOR, "ps/comm", "ps/sync", "ps/sync/wires", "ps/coordinator", "workers", "workers/batch",
    "workers/launch", "workers/checkpoint", "workers/preparation",
}  # fmt: skip
ROOMS: dict[str, set[str]] = {
    "common": set(),
    "common/data": {"common"},
    "common/nn": {"common", "common/data"},
    "common/evaluation": {"common", "common/data"},
    "ps": {"common"},
    "ps/comm": {"common"},
    "ps/logfile": {"common"},
    "ps/text": {"common", "ps/logfile"},
    "ps/metrics": {"common", "ps/comm", "ps/logfile", "ps/text"},
    "ps/sync/wires": {"common", "ps/comm"},
    "ps/sync": {*_COMMON, "ps/comm", "ps/metrics", "ps/sync/wires"},
    "ps/sync/served": {*_COMMON, "ps/comm", "ps/metrics", "ps/sync", "ps/sync/wires"},
    "ps/findings": {"common", "common/data", "ps/comm", "ps/logfile", "ps/metrics", "ps/text"},
    "ps/coordinator": _COORDINATOR,
    "ps/reader": _READER,
    "ps/reader/report": _READER,
    "ps/reader/export": _READER,
    "ps/reader/commands": {*_READER, "ps/findings", "ps/reader/report", "ps/reader/export"},
    "workers": {"common"},
    "workers/launch": {"common", "common/data", "ps/comm", "ps/coordinator", "workers"},
    "workers/checkpoint": {
        "common",
        "ps/comm",
        "ps/coordinator",
        "ps/logfile",
        "ps/metrics",
        "ps/sync",
        "ps/sync/wires",
    },
    "workers/watchdog": {"common", "ps/comm", "ps/coordinator", "ps/logfile", "ps/text", "workers/checkpoint"},
    "workers/prediction": {*_TRAINING, "workers/preparation", "workers/training"},
    "workers/training": {*_TRAINING, "ps/sync/served"},
    "workers/elastic": {*_TRAINING, "ps/sync/served", "workers/training"},
    "workers/benchmark": {*_TRAINING, "workers/training"},
    "workers/estimators": {
        *_COMMON,
        "ps/comm",
        "ps/coordinator",
        "ps/logfile",
        "ps/sync",
        "ps/text",
        "workers/launch",
        "workers/prediction",
        "workers/preparation",
        "workers/training",
    },
    "workers/preparation": {*_COMMON, "ps/comm", "ps/text", "workers/launch"},
    "workers/diagnosis": {"common", "ps/comm", "ps/metrics", "ps/text", "workers", "workers/launch"},
    "workers/exporting": {*_COMMON, "workers/launch", "workers/prediction"},
    "workers/batch": {"common", "ps/logfile", "workers/launch"},
    "workers/supervisor": {"common", "ps/coordinator", "ps/logfile", "workers", "workers/launch"},
    "slurm": {"common", "ps/sync", "workers", "workers/batch", "workers/benchmark", "workers/launch"},
}
"""Which other rooms each room may import."""
_CORE = {"numpy", "msgpack", "mpi4py"}
_READERS = {"numpy", "msgpack", "rich", "cyclopts", "jinja2", "plotly", "matplotlib", "tensorboardX"}
LIBRARIES = {
    "common": {"numpy"},
    "ps": _CORE,
    "ps/logfile": _CORE - {"mpi4py"},
    "ps/text": {"numpy"},
    "ps/coordinator": _CORE - {"mpi4py"},
    "ps/coordinator/display.py": {"rich"},
    "ps/reader": _READERS,
    "workers": {*_CORE, "threadpoolctl", "cyclopts"},
    "workers/__init__.py": set(),
    "workers/launch/signals.py": set(),
    "workers/launch/cli.py": {"cyclopts"},
    "workers/launch/command_names.py": set(),
    "workers/launch/completion.py": {"cyclopts"},
    "workers/launch/launch_options.py": set(),
    "workers/launch/launcher.py": set(),
    "workers/launch/start.py": set(),
    "workers/launch/run_options.py": set(),
    "workers/training/loop.py": set(),
    "workers/estimator.py": {"sklearn"},
    "workers/diagnosis": set(),
    "workers/diagnosis/collect.py": {"numpy", "msgpack"},
    "workers/diagnosis/job.py": {"mpi4py"},
    "workers/diagnosis/kernels.py": {"threadpoolctl"},
    "workers/diagnosis/late.py": {"mpi4py"},
    "workers/diagnosis/measure.py": {"numpy", "mpi4py"},
    "workers/prediction": {"numpy", "mpi4py"},
    "workers/prediction/table_child.py": {"numpy", "polars"},
    "workers/prediction/transformed_child.py": {"numpy", "polars"},
    "workers/exporting": {"numpy"},
    "workers/exporting/graph.py": {"numpy", "onnx"},
    "workers/exporting/safetensors_file.py": {"numpy", "safetensors"},
    "workers/exporting/sklearn_columns.py": {"numpy", "pandas", "sklearn"},
    "workers/exporting/sklearn_file.py": {"numpy", "sklearn", "skops"},
    "workers/estimators": {"numpy"},
    "workers/estimators/as_found.py": {"threadpoolctl"},
    "workers/estimators/frames.py": {"numpy", "polars", "sklearn"},
    "workers/estimators/base.py": {"numpy", "sklearn"},
    "workers/estimators/classifier.py": {"numpy", "sklearn"},
    "workers/estimators/regressor.py": {"numpy", "sklearn"},
    "workers/estimators/on_ranks.py": {"numpy", "mpi4py"},
    "workers/estimators/on_communicator.py": {"numpy", "mpi4py"},
    "workers/preparation": {"numpy", "msgpack", "polars"},
    "workers/preparation/on_ranks.py": {"mpi4py"},
    "workers/preparation/parallel.py": {"mpi4py"},
    "workers/preparation/transforming.py": {"mpi4py", "numpy"},
    "workers/preparation/typed_frame.py": {"numpy", "pandas", "polars"},
    "workers/preparation/transformer_file.py": {"numpy", "sklearn", "skops"},
    "workers/preparation/transform_child.py": {"numpy", "pandas", "polars"},
    "workers/preparation/for_training.py": {"mpi4py"},
    "workers/watchdog": {"msgpack"},
    "workers/watchdog/spawn.py": _CORE,
    "workers/supervisor": {"cyclopts"},
    "workers/batch": {"cyclopts"},
    "slurm": set(),
}
"""What a folder or a file may import from outside; the closest entry counts. Where mpi4py is not listed, no MPI."""


def room(path: Path) -> str:
    """Return the folder of a module; a door's own name."""
    place = str(path.relative_to(ROOT))
    return place if place in DOORS else str(Path(place).parent)


def room_of(module: str) -> str:
    """Return the room of one of our modules, or of a package."""
    path = ROOT / Path(*module.split("."))
    return room(path.with_suffix(".py")) if path.with_suffix(".py").is_file() else str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions; of ``from package import module`` the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").is_file()
                yield whole if is_module else str(node.module)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in ("common", "ps", "workers", "slurm")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_one_way(path: Path) -> None:
    own, others = room(path), {room_of(name) for name in ours(path)}
    assert own in ROOMS or own in DOORS, f"{own}: a new room; say in ROOMS what it may import"
    assert not others & DOORS, "no room imports a door"
    if own in ROOMS:
        assert others - {own} <= ROOMS[own]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    place = path.relative_to(ROOT)
    allowed = next(LIBRARIES[str(p)] for p in (place, *place.parents) if str(p) in LIBRARIES)
    tops = (
        {name.split(".")[0] for name in imports(path)}
        - set(sys.stdlib_module_names)
        - {"common", "ps", "workers", "slurm"}
    )
    assert tops <= allowed
    assert {"pickle", "shelve", "marshal", "dill"}.isdisjoint(imports(path))


def circles(arrows: dict[str, set[str]]) -> set[str]:
    """Return what lies on a circle or leads to one: what is left when all without arrows is taken away, repeatedly."""
    left = dict(arrows)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return set(left)


def test_no_circles() -> None:
    """Neither of files nor of rooms, imports inside functions included."""
    names = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
             for path in MODULES}  # fmt: skip
    assert circles({name: ours(path) - {name} for name, path in names.items()}) == set()
    rooms: dict[str, set[str]] = {}
    for path in MODULES:
        rooms.setdefault(room(path), set()).update({room_of(name) for name in ours(path)} - {room(path)})
    assert circles(rooms) == set()
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_each_room_says_what_lives_there(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text())) or ""
    assert len(re.findall(r"\.(?:\s|$)", text)) >= 2, f"{name}: two sentences, what lives there and what may not"


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
    import slurm
    import workers

    for package in (common, ps, slurm, workers):
        assert str(package.__file__).endswith(f"{package.__name__}/__init__.py")
        assert (Path(str(package.__file__)).parent.parent / "common" / "data" / "digits.npz").exists()
