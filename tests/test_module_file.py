"""A user's module is found without running any of it, is never taken from a run folder, and is the one of the log."""

import importlib
import os
import py_compile
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import module_file
from common.config import RunConfig, to_toml
from common.errors import ConfigError
from ps.sync import mode_names
from tests.ranks import Result
from workers.launch import run_options

Job = Callable[..., Result]
EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "own_model.py"
RAN = "ran"
"""The file that code leaves which has run."""
EVIL = f"open({RAN!r}, 'w').close()\nclass Net: pass\n"
HONEST = "from docs.examples.own_model import SkipNet as Net\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder with a folder of runs, with what earlier tests found forgotten."""
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    module_file._run_folder.cache_clear()
    module_file.LEFT_OUT.clear()
    importlib.invalidate_caches()


def as_run(folder: Path, mark: str = "log") -> None:
    """Make a folder one of a run, by one of its files."""
    if mark == "log":
        (folder / "coordinator.msgpack").write_bytes(b"")
    elif mark == "link":
        (folder / "coordinator.msgpack").symlink_to("nowhere")
    else:
        (folder / "config.toml").write_text(to_toml(RunConfig().as_dict()))


def beside(folder: Path) -> str:
    (folder / "evil.py").write_text(EVIL)
    return "runs.mine.evil:Net"


def in_packages(folder: Path) -> str:
    for package in (folder.parent, folder):
        (package / "__init__.py").write_text(EVIL)
    return beside(folder)


def as_the_package(folder: Path) -> str:
    (folder / "__init__.py").write_text(EVIL)
    return "runs.mine:Net"


def deeper(folder: Path) -> str:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "evil.py").write_text(EVIL)
    return "runs.mine.a.b.evil:Net"


def by_a_linked_folder(folder: Path) -> str:
    (folder.parent / "latest").symlink_to("mine")
    beside(folder)
    return "runs.latest.evil:Net"


def by_a_link_from_outside(folder: Path) -> str:
    beside(folder)
    Path("good.py").symlink_to(folder / "evil.py")
    return "good:Net"


def by_a_link_to_outside(folder: Path) -> str:
    Path("elsewhere.py").write_text(EVIL)
    (folder / "evil.py").symlink_to(Path("elsewhere.py").absolute())
    return "runs.mine.evil:Net"


def compiled(folder: Path) -> str:
    beside(folder)
    py_compile.compile(str(folder / "evil.py"), str(folder / "evil.pyc"))
    (folder / "evil.py").unlink()
    return "runs.mine.evil:Net"


def zipped(folder: Path) -> str:
    with zipfile.ZipFile(folder / "evil.zip", "w") as file:
        file.writestr("evil.py", EVIL)
    sys.path.append(str(folder / "evil.zip"))
    return "evil:Net"


def on_the_path(folder: Path) -> str:
    beside(folder)
    sys.path.insert(0, str(folder))
    return "evil:Net"


def in_the_current_folder(folder: Path) -> str:
    beside(folder)
    os.chdir(folder)
    return "evil:Net"


def below_the_current_folder(folder: Path) -> str:
    (folder / "deep").mkdir()
    (folder / "deep" / "evil.py").write_text(EVIL)
    os.chdir(folder / "deep")
    return "evil:Net"


WAYS = [
    beside, in_packages, as_the_package, deeper, by_a_linked_folder, by_a_link_from_outside, by_a_link_to_outside,
    compiled, zipped, on_the_path, in_the_current_folder, below_the_current_folder,
]  # fmt: skip


@pytest.mark.parametrize("mark", ["log", "link", "config"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_in_a_run_folder_is_imported(way: Callable[[Path], str], mark: str, place: Path) -> None:
    folder = place / "runs" / "mine"
    as_run(folder, mark)
    name = way(folder)
    with pytest.raises(ConfigError, match=f"^model {name}: /.* lies in a run folder: {place}/runs/(mine|latest) holds"):
        module_file.find(name)
    assert not list(place.rglob(RAN))


@pytest.mark.parametrize("way", [beside, on_the_path, zipped, compiled], ids=lambda way: way.__name__)
def test_nor_is_what_a_users_own_module_imports(way: Callable[[Path], str], place: Path) -> None:
    as_run(place / "runs" / "mine")
    module = way(place / "runs" / "mine").partition(":")[0]
    sys.path.insert(0, str(place))
    module_file.guard()
    Path("own.py").write_text(f"import {module}\n")
    with pytest.raises(module_file.RunFolderError, match=r"evil\.pyc? lies in a run folder"):
        importlib.import_module("own")
    assert not list(place.rglob(RAN))


def test_honest_models_are_found(place: Path) -> None:
    """In the current folder, in packages with and without __init__.py, in a zip file, with an own configuration."""
    as_run(place / "runs" / "mine")
    (place / "config.toml").write_text('model = "net:Net"\nmode = "shared"\nepochs = 3\n')
    (place / "net.py").write_text(EVIL)
    (place / "lib" / "plain").mkdir(parents=True)
    (place / "lib" / "plain" / "net.py").write_text(EVIL)
    (place / "lib" / "plain" / "__init__.py").write_text("raise SystemExit\n")
    with zipfile.ZipFile(place / "some.zip", "w") as file:
        file.writestr("zipped.py", EVIL)
    sys.path.append("some.zip")
    sums = set()
    for name, path in (("net", "net.py"), ("lib.plain.net", "lib/plain/net.py"), ("zipped", "some.zip/zipped.py")):
        found = module_file.find(f"{name}:Net")
        assert found
        assert found.path == str(place / path) or found.path == path
        sums.add(found.sha256)
    assert len(sums) == 1
    assert len(sums.pop()) == 64
    assert module_file.find("json:JSONDecoder")
    assert module_file.find("no.such.module:Net") is None
    assert module_file.find("net.is_no_package:Net") is None
    config = run_options.parse(["--config", "config.toml"], mode_names.read())
    assert isinstance(config, RunConfig)
    assert config.model == "net:Net"
    assert not list(place.rglob(RAN))


def test_folders_of_one_name_are_one_package(place: Path) -> None:
    """Without __init__.py, also where one of them comes earlier: such as the runs of a checkout that is in the path."""
    (place / "earlier" / "runs" / "other").mkdir(parents=True)
    (place / "earlier" / "lib").mkdir()
    (place / "lib").mkdir()
    (place / "lib" / "net.py").write_text(EVIL)
    model = beside(place / "runs" / "mine")
    as_run(place / "runs" / "mine")
    sys.path[:] = [str(place / "earlier"), *(entry for entry in sys.path if entry)]
    with pytest.raises(ConfigError, match=r"evil\.py lies in a run folder"):
        module_file.find(model)
    found = module_file.find("lib.net:Net")
    assert found
    assert Path(found.path).resolve() == place / "lib" / "net.py"


def test_packages_are_installed_wherever_python_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of one's own may lie in the folder that a run was written to."""
    as_run(place)
    library = place / "venv" / "lib"
    library.mkdir(parents=True)
    (library / "net.py").write_text(EVIL)
    sys.path.append(str(library))
    with pytest.raises(ConfigError, match="run folder"):
        module_file.find("net:Net")
    monkeypatch.setattr(sys, "prefix", str(place / "venv"))
    module_file._installed.cache_clear()
    module_file._run_folder.cache_clear()
    try:
        assert module_file.find("net:Net")
    finally:
        module_file._installed.cache_clear()


@pytest.mark.parametrize("marked", [True, False])
def test_a_file_of_options_names_no_class_beside_it(marked: bool, place: Path) -> None:
    folder = place / "theirs"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    (folder / "config.toml").write_text('model = "theirs.evil:Net"\n')
    if marked:
        as_run(folder)
    arguments = ["--config", "theirs/config.toml"]
    with pytest.raises(ConfigError, match=r"^model theirs\.evil:Net: /.*/theirs/evil\.py lies in "):
        run_options.parse(arguments, mode_names.read())
    if not marked:  # the user may name it
        assert run_options.parse([*arguments, "--model", "theirs.evil:Net"], mode_names.read())


def test_nor_one_among_the_runs(place: Path) -> None:
    (place / "runs" / "evil.py").write_text(EVIL)
    (place / "own.toml").write_text('model = "runs.evil:Net"\n')
    with pytest.raises(ConfigError, match=r"lies in runs, among the runs, and was not named by you"):
        run_options.parse(["--config", "own.toml"], mode_names.read())


def test_no_run_is_written_around_its_model(place: Path) -> None:
    """It could not be resumed."""
    (place / "net.py").write_text(EVIL)
    with pytest.raises(ConfigError, match=r"net\.py lies in \., the folder of this run; choose another --output"):
        run_options.parse(["--model", "net:Net", "--output", "."], mode_names.read())


def test_run_folders_are_no_places_to_look_for_modules(place: Path) -> None:
    as_run(place / "runs" / "mine")
    others = list(sys.path)
    sys.path[:] = [str(place / "runs" / "mine"), *others]
    module_file.leave_run_folders()
    assert sys.path == others
    beside(place / "runs" / "mine")
    with pytest.raises(ConfigError, match=r"evil[.]py lies in a run folder"):  # and not: there is no such module
        module_file.find("evil:Net")
    os.chdir(place / "runs" / "mine")
    sys.path[:] = ["", *others]
    module_file.leave_run_folders()
    assert sys.path == others


def test_what_lies_in_a_folder_of_all_users_is_about_none_of_them(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may put a file into /tmp, or have had a run written there."""
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", lambda path: path == "/tmp/coordinator.msgpack")
        assert module_file._run_folder("/tmp") is None
        assert module_file._run_folder("/") is None
    own = str(module_file.OWN)
    monkeypatch.setattr(module_file, "lies_in_run_folder", lambda _: True)
    sys.path[:] = [own, str(place)]
    module_file.leave_run_folders()
    assert sys.path == [own]
