"""The folder of a new run."""

import os
import time
from pathlib import Path

from common.errors import RankwiseError
from ps import outputs
from ps.console import warn
from ps.log import FAILURE_NAME, LOG_NAME

CONFIG_NAME = "config.toml"


def make_folder(output: str, mode: str, n_ranks: int) -> Path:
    """Make the run folder, ``runs/<time>-<mode>-<ranks>`` unless named, and point ``runs/latest`` to it.

    Raises RankwiseError if it cannot be written or holds a run already.
    """
    folder = Path(output).expanduser()
    if not output:
        stem = f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{mode}-{n_ranks}"
        folder = next(p for p in (Path(stem + s) for s in ("", *(f"-{i}" for i in range(2, 1000)))) if not p.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RankwiseError(f"output: cannot write to {folder} ({error.strerror}); choose another --output") from error
    if (folder / LOG_NAME).exists():
        raise RankwiseError(f"output: {folder} holds a run already; choose another --output")
    in_the_way = [name for name in (CONFIG_NAME, FAILURE_NAME, *outputs.NAMES) if (folder / name).exists()]
    if in_the_way:
        raise RankwiseError(
            f"output: {folder} holds {', '.join(in_the_way)}, which the run would replace; choose another --output"
        )
    if folder.absolute().parent == Path("runs").absolute():
        _point_latest(folder)
    return folder


def _point_latest(folder: Path) -> None:
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest-{os.getpid()}"
    try:
        if link.exists() and not link.is_symlink():
            raise FileExistsError("there is a file or folder of that name")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        temporary.replace(link)
    except OSError as error:
        warn(f"{link} does not point to this run ({error})")
