"""Which file a user's module would be imported from, without running any of it; never one inside a run folder.

A run folder may be somebody else's: its log and its config.toml name a model class, and a file beside them could be
meant to be run under that name.
"""

import functools
import hashlib
import importlib.machinery
import os
import site
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.run_files import CONFIG_NAME, LOG_NAME
from common.toml_file import read_toml

Spec = importlib.machinery.ModuleSpec
OF_A_RUN = frozenset(("mode", "model", "data", "init", "keep", "nonfinite_most", "epochs"))
"""Options that the config.toml of any run has; nobody writes all of them by hand."""
OF_ALL_USERS = frozenset(("/", "/tmp", "/var/tmp", "/dev/shm", "/private/tmp", "/private/var/tmp"))
"""No run folders: what one user leaves there is not about the others."""
LEFT_OUT: list[str] = []
"""Places where Python would have looked for modules but for ``leave_run_folders``: of what is there, messages tell."""
OWN = Path(__file__).resolve().parent.parent


class RunFolderError(ImportError):
    """A module lies in a run folder. Code that can do without the module may take it as one that is not there."""


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """``paths``: of the packages around the module that have a file, and last its own. ``sha256``: of the last."""

    paths: tuple[str, ...]
    sha256: str

    @property
    def path(self) -> str:
        """The module's own file; empty if it has none."""
        return self.paths[-1] if self.paths else ""


def find(model: str, option: str = "model") -> ModuleFile | None:
    """Return where ``package.module:Class`` would be imported from, also from the current folder; None if nowhere.

    ``option``: which names it. Raises ConfigError if that is inside a run folder.
    """
    paths: list[str] = []
    spec = None
    for spec in _specs(model.partition(":")[0].split(".")):
        if spec is None:
            return None
        paths += [place] if (place := _file(spec)) else []
        if fault := in_run_folder(spec):
            raise ConfigError(f"{option} {model}: {fault}")
    return ModuleFile(tuple(paths), _sha256(spec))


def refuse_inside(model: str, folders: Mapping[str, str], option: str = "model") -> None:
    """Raise ConfigError if a model class lies in a run folder, or in one of some others.

    ``folders``: each with what to say of it.
    """
    found = find(model, option)
    for path in found.paths if found else ():
        for folder, reason in folders.items():
            tops = os.path.abspath(folder), os.path.realpath(folder)
            if any(f"{real}/".startswith(f"{top.rstrip('/')}/") for real in _both(path) for top in tops):
                raise ConfigError(f"{option} {model}: {path} lies in {folder}, {reason}")


def in_run_folder(spec: Spec) -> str:
    """Return what is wrong with where a module lies; nothing if that is in no run folder."""
    cached = spec.cached if spec.has_location and spec.cached and os.path.exists(spec.cached) else ""
    for path in filter(None, (_file(spec), cached)):
        for place in _both(path):
            if found := _run_folder(os.path.dirname(place)):
                folder, mark = found
                link = f" (as {place})" if place != path else ""
                return (
                    f"{path}{link} lies in a run folder: {folder} holds a {mark}; no code is imported from there, for "
                    "it may have come with the run; if it is your own, move it to a folder outside of all run folders"
                )
    return ""


def lies_in_run_folder(folder: str) -> bool:
    """Say whether a folder is a run folder or lies in one."""
    try:
        return any(map(_run_folder, _both(folder)))
    except OSError:  # it is the current folder, which is gone
        return False


def leave_run_folders() -> None:
    """Take the run folders out of the places where Python looks for modules, such as the current folder.

    Not the one that holds rankwise itself, if somebody has written a run there.
    """
    own = str(OWN)
    kept: list[str] = []
    for place in sys.path:
        refused = lies_in_run_folder(place or os.curdir) and os.path.realpath(place) != own
        (LEFT_OUT if refused else kept).append(place)
    sys.path[:] = kept


def guard() -> None:
    """Refuse to import anything from a run folder from here on, whoever asks for it and however it is reached."""
    if not any(isinstance(finder, _Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Guard())


class _Guard:
    """Asks the other finders, and looks at what they have found."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Spec | None:
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if fault := in_run_folder(spec):
                    raise RunFolderError(fault, name=name)
                return spec
        return None


def _specs(names: list[str]) -> Iterator[Spec | None]:
    """Yield what Python knows of a package, of one in it, ..., and of a module; None, and nothing more, if one is not.

    ``importlib.util.find_spec`` would run the packages around it.
    """
    path: Iterable[str] | None = None
    for i, tail in enumerate(names):
        name = ".".join(names[: i + 1])
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None) or _spec(name, tail, path)
        yield spec
        if spec is None:
            return
        path = list(getattr(module, "__path__", None) or spec.submodule_search_locations or ())


def _spec(name: str, tail: str, path: Iterable[str] | None) -> Spec | None:
    places = None if path is None else list(path)
    # with the current folder, as when it is imported: folders of one name without __init__.py are one package then
    in_folders = [*sys.path, "", *LEFT_OUT] if places is None else places
    for finder in (finder for finder in sys.meta_path if not isinstance(finder, _Guard)):
        if finder is importlib.machinery.PathFinder:
            # by its last part: for a folder without __init__.py it would look up the package around it
            spec = importlib.machinery.PathFinder.find_spec(tail, in_folders)
        else:
            spec = finder.find_spec(name, places)
        if spec is not None:
            return spec
    return None


def _file(spec: Spec) -> str:
    return spec.origin if spec.has_location and spec.origin else ""


def _both(path: str) -> set[str]:
    """Return where a path leads by its name, and where it really is."""
    return {os.path.abspath(path), os.path.realpath(path)}


def _sha256(spec: Spec | None) -> str:
    """Return the checksum of a module's file, which may lie in a zip file; empty where there is none."""
    try:
        data = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
    except (AttributeError, OSError):
        return ""
    return hashlib.sha256(data).hexdigest()


@functools.cache  # what holds for one import holds for the next: a job's own log appears while it trains
def _run_folder(folder: str) -> tuple[str, str] | None:
    """Return the run folder that a folder is or lies in, with the file that makes it one; None if there is none."""
    if folder in _installed() or folder in OF_ALL_USERS:
        return None
    if os.path.lexists(os.path.join(folder, LOG_NAME)):
        return folder, LOG_NAME
    if _is_config(Path(folder, CONFIG_NAME)):
        return folder, f"{CONFIG_NAME} of a run"
    above = os.path.dirname(folder)
    return None if above == folder else _run_folder(above)


@functools.cache
def _installed() -> frozenset[str]:
    """Return the folders below which Python and its packages lie, whatever there is around them."""
    own = (str(OWN / name) for name in ("common", "ps", "workers"))
    users = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    places = filter(None, (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, users, *own))
    return frozenset(real for place in places for real in _both(place))


def _is_config(path: Path) -> bool:
    """Say whether a file is the config.toml that a run leaves, and none that a user or another program wrote."""
    if not path.exists():
        return False
    try:
        values = read_toml(path)
    except (OSError, ValueError):
        return False
    return values.keys() >= OF_A_RUN
