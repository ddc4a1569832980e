"""Whether a user's files hide modules that rankwise needs: said once for all ranks, before any of them is imported.

``python -m workers.run`` looks in the current folder first, also for ``random``, ``numpy`` or our own ``common``. So
this is imported (``workers/__init__.py``, ``ps/__init__.py``) while that folder is out of the path.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder

from common import start_guard

EXIT_USAGE = 2
OWN = "rankwise's own package"
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
STANDARD = frozenset((
    "abc", "argparse", "array", "ast", "asyncio", "atexit", "base64", "binascii", "bisect", "bz2", "calendar",
    "cmath", "codecs", "collections", "colorsys", "concurrent", "configparser", "contextlib", "contextvars", "copy",
    "copyreg", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib", "dis", "email", "encodings", "enum",
    "errno", "faulthandler", "fcntl", "fnmatch", "fractions", "functools", "gc", "getpass", "gettext", "glob", "gzip",
    "hashlib", "heapq", "hmac", "html", "http", "importlib", "inspect", "io", "ipaddress", "itertools", "json",
    "keyword", "linecache", "locale", "logging", "lzma", "math", "mmap", "multiprocessing", "numbers", "opcode",
    "operator", "os", "pathlib", "pickle", "pkgutil", "platform", "posixpath", "pprint", "pwd", "queue", "quopri",
    "random", "re", "reprlib", "resource", "runpy", "secrets", "select", "selectors", "shlex", "shutil", "signal",
    "site", "socket", "ssl", "stat", "statistics", "string", "struct", "subprocess", "sysconfig", "tempfile",
    "termios", "textwrap", "threading", "time", "token", "tokenize", "tomllib", "traceback", "types", "typing",
    "unicodedata", "unittest", "urllib", "uuid", "warnings", "weakref", "xml", "zipfile", "zipimport", "zlib",
))  # fmt: skip
"""What our commands import from the standard library, and what that imports in its turn."""
NEEDED = frozenset(
    ("numpy", "mpi4py", "msgpack", "threadpoolctl", "cyclopts", "attrs", "attr", "docstring_parser", "rich", "pygments",
     "markdown_it", "mdurl")
)  # fmt: skip
"""And from elsewhere."""
FOR_READERS = frozenset(
    ("plotly", "_plotly_utils", "narwhals", "packaging", "jinja2", "markupsafe", "matplotlib", "PIL", "dateutil", "six",
     "cycler", "kiwisolver", "pyparsing", "contourpy", "fontTools", "tensorboardX", "google")
)  # fmt: skip
"""And what some commands of ps.log import."""
FOR_EXPORT = frozenset(
    ("onnx", "google", "ml_dtypes", "typing_extensions", "safetensors", "skops", "sklearn", "scipy", "joblib",
     "prettytable", "wcwidth", "pandas", "pyarrow", "dateutil", "six", "narwhals", "cloudpickle")
)  # fmt: skip
"""And what workers.export imports."""


def launcher_rank() -> int:
    """Return the rank that the launcher gave this process, without MPI; 0 without a launcher."""
    return next((int(os.environ[name]) for name in RANK_VARIABLES if os.environ.get(name, "").isdigit()), 0)


def begin_command(path: list[str], root: str, packages: Iterable[str], libraries: frozenset[str]) -> None:
    """Have the start guarded, look for what a user's files hide, and leave run folders out of Python's path.

    ``path``: as Python has made it, which is used from here on; until then only ``root`` was in the place of the
    current folder. The others: see ``refuse``.
    """
    start_guard.begin()
    sys.path = path
    refuse(root, packages, libraries)
    from common.module_file import leave_run_folders

    leave_run_folders()


def refuse(root: str, packages: Iterable[str], libraries: frozenset[str]) -> None:
    """End this process, with one message for all ranks, if a user's file is in the way.

    ``root``: the folder of our packages. ``packages``: those of them that are imported next. ``libraries``: of others.
    """
    hidden: dict[str, list[tuple[str, str]]] = {}
    for place, file, what in (*_hidden_packages(root, packages), *_hidden_libraries(STANDARD | libraries)):
        hidden.setdefault(place, []).append((file, what))
    if not hidden:
        return
    messages = (_printable(_message(place, pairs)) for place, pairs in hidden.items())
    start_guard.fail("\nrankwise: ".join(messages), EXIT_USAGE)


def _hidden_packages(root: str, packages: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield packages of ours that Python takes from elsewhere: the folder, the file there, and what it hides."""
    for name in packages:
        spec = PathFinder.find_spec(name)
        found = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
        if found and os.path.realpath(found[0]) != os.path.realpath(os.path.join(root, name)):
            yield os.path.dirname(found[0]), os.path.basename(found[0]), f"{OWN} {name}"


def _hidden_libraries(names: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the same for modules of others that the current folder hides."""
    folder = sys.path[0]
    if sys.flags.safe_path or _is_among(folder, sys.path[1:]):  # it is where modules are installed
        return
    try:
        there = {entry.partition(".")[0] for entry in os.listdir(folder or os.curdir)}
    except OSError:
        return
    for name in sorted((there & names) - sys.modules.keys() - set(sys.builtin_module_names)):
        spec = PathFinder.find_spec(name, [folder])
        if spec is not None and spec.origin is not None:  # not a folder without __init__.py: those come last
            is_package = spec.submodule_search_locations is not None
            file = name if is_package else os.path.basename(spec.origin)
            kind = "Python's own module" if name in STANDARD else "the installed package"
            yield folder, file, f"{kind} {name}"


def _printable(text: str) -> str:
    """Return a text with a folder's name in it so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_among(folder: str, path: list[str]) -> bool:
    real = os.path.realpath(folder)
    return any(os.path.realpath(place) == real for place in path if place)


def _message(place: str, pairs: list[tuple[str, str]]) -> str:
    files, hidden = (" and ".join(words) for words in zip(*pairs, strict=True))
    why = "" if pairs[-1][1].startswith(OWN) else ", which rankwise needs"
    text = f"{files} in {place} hide{'s' * (len(pairs) == 1)} {hidden}{why}"
    if not sys.flags.safe_path and _is_among(place, sys.path[:1]):
        them = "it" if len(pairs) == 1 else "them"
        return f"{text}; rename {them}, start in another folder, or set PYTHONSAFEPATH=1: Python then looks there last"
    return f"{text}; take {place} out of PYTHONPATH"
