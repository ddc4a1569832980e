"""Before the trials: which modes can start here, how long a step takes, and what the log's header says."""

from dataclasses import dataclass, field
from typing import Any

from common.errors import JobError
from ps.sync.modes import MODES
from workers.benchmark.runner import opened
from workers.benchmark.trials import DROPPED, TrialRunner, Work
from workers.training.environment import header_facts, timing

ENOUGH_S = 0.1
SHORTEST_S, LONGEST_S, MOST = 0.25, 2.0, 100_000
"""Seconds of a trial if --steps does not say, and its most steps."""


@dataclass(slots=True)
class Found:
    """Modes that can start, those left out with the reason, seconds of the slowest mode's step, and the header's facts.

    ``threads``: BLAS threads of this rank, and who set them.
    """

    threads: tuple[int, str]
    usable: list[str] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    step_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def steps(self, asked: int) -> int:
        """Return how many steps a trial times: an epoch, unless that is very short or long."""
        fewest, most = (min(MOST, max(1, round(seconds / self.step_s))) for seconds in (SHORTEST_S, LONGEST_S))
        return asked or min(max(self.facts["steps_per_epoch"], fewest), most)


def warm_up(work: Work, modes: list[str], threads: tuple[int, str]) -> Found:
    """Start every mode and take some steps with it. Collective; raises JobError, also if none can start."""
    found = Found(threads)
    for mode in modes:
        runner = _start(work, mode)
        if isinstance(runner, str):
            found.left_out.append({"mode": mode, "reason": runner})
        else:
            _steps(work, runner, found)
    if not found.usable:
        raise JobError(f"modes: none can start here; {found.left_out[0]['mode']}: {found.left_out[0]['reason']}")
    return found


def _start(work: Work, mode: str) -> TrialRunner | str:
    """Return the mode, or why it cannot start here."""
    if work.config.init == "per-rank" and not MODES[mode].replicas:
        return 'init = "per-rank" needs parameters of its own on every rank'
    try:
        return work.runner(mode)
    except JobError as error:
        work.topology.free()
        return str(error)


def _steps(work: Work, runner: TrialRunner, found: Found) -> None:
    with opened(work.topology, lambda: runner):
        parts = runner.parts
        if not found.usable:
            facts = header_facts(work.topology, work.config, work.data, work.model, parts.sync.flat, found.threads)
            found.facts = {
                **facts,
                "steps_per_epoch": parts.loader.steps,
                "sync": {"mode": work.config.mode, **parts.sync.facts(), "trials": None},
                "timing": timing(work.topology, parts.timer),
                "contribution": {"method": "not measured in a comparison"},
            }
        once = runner.run(DROPPED, work.stop) / DROPPED
        count = max(1, min(MOST, round(ENOUGH_S / once)))
        found.step_s = max(found.step_s, runner.run(count, work.stop) / count)
        found.usable.append(runner.mode)
