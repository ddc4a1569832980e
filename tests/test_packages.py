"""A package that is missing or broken is one message, in every command that starts no ranks."""

import sys
from pathlib import Path

import pytest

from tests.ranks import Result, environment, finish, popen

HIDE = "import os, sys\nfor name in os.environ['HIDDEN'].split(): sys.modules[name] = None\n"


def command(folder: Path, hidden: str, *words: str) -> Result:
    """Run a command where some packages cannot be imported; ``folder`` comes first on Python's path."""
    (folder / "sitecustomize.py").write_text(HIDE)
    env = environment(HIDDEN=hidden)
    env["PYTHONPATH"] = f"{folder}:{env['PYTHONPATH']}"
    return finish(popen([sys.executable, "-m", *words], env=env, cwd=folder))


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("msgpack", ("ps.log", "--help")),
        ("msgpack", ("workers.rankwise", "log", "show")),
        ("msgpack", ("workers.supervise", "-np", "2", "--")),
        ("numpy", ("ps.log", "show", "x")),
        ("cyclopts", ("ps.log", "show", "x")),
        ("cyclopts", ("workers.rankwise", "--help")),
    ],
)
def test_a_missing_package_is_one_message(package: str, words: tuple[str, ...], tmp_path: Path) -> None:
    result = command(tmp_path, package, *words)
    assert result.code == 1
    assert result.err == (
        f"rankwise: {package} is not installed in {sys.prefix}, the environment of this Python; pip install {package}\n"
    )


def test_so_is_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "msgpack").mkdir()
    (tmp_path / "msgpack" / "__init__.py").write_text("raise ImportError('libfoo.so.1:\\n' + 1000 * 'no such file ')\n")
    result = command(tmp_path, "", "ps.log", "show", "x")
    assert result.code == 1
    assert result.err.startswith(f"rankwise: msgpack in {sys.prefix} cannot be imported (libfoo.so.1: no such file no ")
    assert result.err.endswith("); pip install --force-reinstall msgpack\n")
    assert len(result.err) < 600
