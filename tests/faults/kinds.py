"""The table of kinds: what happens, what draws its cases, what strikes and judges them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults import (
    bombs,
    damaged_logs,
    folders,
    foreign,
    jobs,
    messages,
    plan,
    saving,
    signals,
    start_up,
    training,
)
from tests.faults.case import Draw, Place
from tests.faults.judge import Judge


@dataclass(frozen=True, slots=True)
class Kind:
    """``draw`` chooses the details of a case, ``strike`` does it and judges. ``vendor``: the only MPI that can."""

    told: str
    draw: Draw
    strike: Callable[[Any, Place, Judge], dict[str, Any] | None]
    vendor: str = ""


AROUND = {
    "damaged-log": Kind("a damaged log, and `--resume`", damaged_logs.draw, damaged_logs.strike),
    "log-while-written": Kind("a log that is cut, removed or soiled while it is written", damaged_logs.draw_while,
                              damaged_logs.strike_while),
    "start-up": Kind("a rank that ends or hangs before `MPI_Init`", start_up.draw, start_up.strike),
    "start-up-signal": Kind("a signal in start-up", start_up.draw_signal, start_up.strike_signal),
    "output": Kind("a standard output that takes no more", signals.draw_output, signals.strike_output),
    "launcher-signal": Kind("SIGTERM, SIGINT, SIGHUP or SIGUSR1 to a launcher", signals.draw, signals.strike),
    "watchdog": Kind("SIGKILL of the watchdog, and then of a rank", signals.draw_watchdog, signals.strike_watchdog),
    "foreign-code": Kind("code in somebody else's run folder", foreign.draw, foreign.strike),
    "odd-file": Kind("a pipe, device, giant, ... for a file of a run folder", folders.draw, folders.strike),
    "planted-link": Kind("links planted in the folder of a running job", folders.draw_links, folders.strike_links),
    "odd-output": Kind("`--output` is a pipe, device, link, ...", folders.draw_outputs, folders.strike_outputs),
    "odd-path": Kind("paths that lead nowhere", folders.draw_paths, folders.strike_paths),
    "bomb": Kind("files that become far more than they are", bombs.draw, bombs.strike),
    "hostile-npz": Kind(f"{bombs.N_HOSTILE} small hostile `.npz`", bombs.draw_hostile, bombs.strike_hostile),
    "escapes": Kind("terminal escapes in texts from elsewhere", foreign.draw_escapes, foreign.strike_escapes),
    "saving": Kind("SIGKILL while a file is saved, and what is left behind", saving.draw, saving.strike),
    "read-only": Kind("disks that are full or read-only from the start", saving.draw_read_only,
                      saving.strike_read_only),
    "message": Kind("a second job, misnamed checkpoints, folders without rights", messages.draw, messages.strike),
    "elastic": Kind("an elastic job: one, two, all ranks, rank 0", jobs.draw_elastic, jobs.strike_elastic, "openmpi"),
    "supervised": Kind("a supervised job: ranks, launcher, supervisor, crash loop", jobs.draw_supervised,
                       jobs.strike_supervised),
}  # fmt: skip
TRAINING = {name: Kind(told, training.drawn(name), training.strike) for name, told in plan.KINDS.items()}
KINDS = {**AROUND, **TRAINING}
