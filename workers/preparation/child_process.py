"""The child that parses for a rank: started without what the launcher has set, asked over pipes."""

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from common.errors import DataError
from common.files import do_nothing
from workers.preparation.messages import receive, send

ROOT = Path(__file__).parent.parent.parent
OF_PREPARATION = "workers.preparation.child"
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main()"
OF_LAUNCHERS = re.compile(
    r"SLURM|PMI|PALS_|HYDRA_|HYDI_|MPI|OMPI_|PRTE_|ORTE_|OPAL_|I_MPI_|MPICH_|FI_|UCX_|OMP_|OPENBLAS_|MKL_"
)
"""Variables of launchers, MPI libraries and threads: the child is no rank."""
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""The C library gives memory of this size back to the system and asks for it again: that took a sixth of the time."""
LOOK_MS = 20
"""While an answer is awaited, so often is looked whether to go on: Open MPI kills ranks 250 ms after it asks them."""


class Child:
    """Answers questions, one after the other. Ends when it is closed, or when this process does.

    ``pulse`` is called whenever it shows that it is at work, with the part of the answer that is done, from 0 to 1;
    ``look`` all the time while an answer is awaited: it may raise, and the child can only be closed then.
    """

    def __init__(
        self,
        threads: int,
        pulse: Callable[[float], object] = do_nothing,
        module: str = OF_PREPARATION,
        look: Callable[[], object] = do_nothing,
    ) -> None:
        """Raises DataError if it cannot be started. ``threads``: as many it computes with. ``module``: has its main."""
        self._pulse, self._look = pulse, look
        command = [sys.executable, "-P", "-c", PROGRAM.format(module), str(ROOT)]
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                env=environment(os.environ, threads),
            )  # fmt: skip
        except OSError as error:
            raise DataError(f"the process that reads tables cannot be started ({error.strerror})") from error
        assert self._process.stdout is not None
        self._to = io.BufferedWriter(cast("io.RawIOBase", self._process.stdin))
        self._from = self._process.stdout
        self._arrivals = select.poll()
        self._arrivals.register(self._from, select.POLLIN)

    def ask(self, question: str, **about: Any) -> Any:
        """Return the answer, plain values. Raises DataError, also if the child has ended."""
        try:
            send(self._to, [question, about])
            while (answer := self._next())[0] == "pulse":
                self._pulse(answer[1])
        except (OSError, EOFError) as error:
            raise DataError(f"the process that reads tables has ended ({self._end()})") from error
        kind, value = answer
        if kind == "fault":
            message, code = value
            fault = DataError(message)
            fault.exit_code = code
            raise fault
        return value

    def _next(self) -> Any:
        while not self._arrivals.poll(LOOK_MS):
            self._look()
        self._look()
        return receive(self._from)

    def _end(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return f"by {name}" + ", as the system does where memory runs out" * (-code == signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):  # it may have ended by itself, before it was asked all
            self._to.close()
        self._process.wait()
        self._from.close()


def environment(own: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the variables of a child: those of this process without what makes it a rank."""
    kept = {name: value for name, value in own.items() if not OF_LAUNCHERS.match(name)}
    return {**kept, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": "1", **KEEP_MEMORY}
