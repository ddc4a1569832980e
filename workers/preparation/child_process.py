"""The child that parses for a rank: started without what the launcher has set, asked over pipes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.files import do_nothing
from workers.preparation.frames import receive, send

ROOT = Path(__file__).parent.parent.parent
OF_PREPARATION = "workers.preparation.child"
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main()"
OF_LAUNCHERS = re.compile(
    r"SLURM|PMI|PALS_|HYDRA_|HYDI_|MPI|OMPI_|PRTE_|ORTE_|OPAL_|I_MPI_|MPICH_|FI_|UCX_|OMP_|OPENBLAS_|MKL_"
)
"""Variables of launchers, MPI libraries and threads: the child is no rank."""


class Child:
    """Answers questions, one after the other. Ends when it is closed, or when this process does.

    ``pulse`` is called whenever it shows that it is at work.
    """

    def __init__(self, threads: int, pulse: Callable[[], object] = do_nothing, module: str = OF_PREPARATION) -> None:
        """Raises DataError if it cannot be started. ``threads``: as many it computes with. ``module``: has its main."""
        self._pulse = pulse
        command = [sys.executable, "-P", "-c", PROGRAM.format(module), str(ROOT)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(os.environ, threads),
                process_group=0,  # Ctrl-C is for the rank, which decides when to stop, also while the child is starting
            )  # fmt: skip
        except OSError as error:
            raise DataError(f"the process that reads tables cannot be started ({error.strerror})") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def ask(self, question: str, **about: Any) -> Any:
        """Return the answer, plain values. Raises DataError, also if the child has ended."""
        try:
            send(self._to, [question, about])
            while (answer := receive(self._from))[0] == "pulse":
                self._pulse()
        except (OSError, EOFError) as error:
            raise DataError(f"the process that reads tables has ended ({self._end()})") from error
        kind, value = answer
        if kind == "fault":
            message, code = value
            fault = DataError(message)
            fault.exit_code = code
            raise fault
        return value

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
        self._to.close()
        self._process.wait()
        self._from.close()


def environment(own: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the variables of a child: those of this process without what makes it a rank."""
    kept = {name: value for name, value in own.items() if not OF_LAUNCHERS.match(name)}
    return {**kept, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
