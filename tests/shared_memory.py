"""Removes what MPI leaves in /dev/shm of jobs that tests have killed: 64 MB, a container's, are full after twenty."""

import contextlib
import os
import time
from pathlib import Path

SHM = Path("/dev/shm")
NAMES = ("mpich_shm_", "sm_segment.", "ucx_shm_posix_")
YOUNG_S = 2.0
"""A file that was made so lately may be one that its process has yet to map."""


def mapped() -> str:
    """Return what all processes that we may look into have mapped."""
    maps = []
    for path in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            maps.append(path.read_text(errors="replace"))
    return "\n".join(maps)


class LeftOvers:
    """Files of MPI in shared memory that are there since this was made, and that nobody uses."""

    def __init__(self) -> None:
        self.before = self._names()

    def _names(self) -> set[str]:
        try:
            return {name for name in os.listdir(SHM) if name.startswith(NAMES)}
        except OSError:  # other systems have none
            return set()

    def remove(self) -> None:
        """Remove them, but for the youngest."""
        new, maps = self._names() - self.before, ""
        for name in sorted(new):
            with contextlib.suppress(OSError):  # its job has removed it
                facts = (SHM / name).lstat()
                if facts.st_uid != os.getuid() or time.time() - facts.st_ctime < YOUNG_S:
                    continue
                maps = maps or mapped()
                if name not in maps:
                    (SHM / name).unlink()
