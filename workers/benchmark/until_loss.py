"""A comparison by the seconds to a loss (``--until-loss``) as every rank runs it: rounds of trainings, and the log."""

from typing import Any

from common import commands
from common.config import RunConfig
from common.data.dataset import Dataset
from common.errors import EXIT_OK, EXIT_USAGE, JobError
from common.rank_status import RankStatus
from ps.comm.topology import Topology
from ps.logfile.records import Record
from ps.metrics.loss_comparison import summarise
from ps.sync.modes import MODES
from ps.text.formatting import number
from ps.text.tables import of_losses
from workers.benchmark import machine, variants
from workers.benchmark.comparison import ComparisonLog, load_work, table_lines
from workers.benchmark.loss_trials import LossTrials
from workers.benchmark.options import CompareConfig
from workers.benchmark.runner import Workload, closing, order
from workers.benchmark.trials import facts_of
from workers.benchmark.variants import Variant
from workers.checkpoint.origin import Origin
from workers.launch.blas_threads import limit_threads
from workers.launch.signals import StopRequest
from workers.training.build import assemble
from workers.training.fit import check_fit
from workers.training.task import Task


class LossComparison:
    """A comparison whose variants have each been built once and whose log is open."""

    def __init__(
        self, topology: Topology, config: RunConfig, options: CompareConfig, stop: StopRequest, rank_status: RankStatus
    ) -> None:
        """Collective; raises JobError."""
        threads = limit_threads(topology)
        self.work = load_work(topology, config, stop, rank_status)
        self.options, self.rank_status = options, rank_status
        check_validation(self.work.data)
        self.trials = LossTrials(self.work, options.until_loss, rank_status)
        rank_status.enter("building modes")
        asked = [variants.read(name, config, MODES) for name in options.modes.split(",")]
        self.facts, left_out = self._start(asked, threads)
        self.variants = [one for one in asked if one.name not in left_out]
        names, job = [one.name for one in self.variants], machine.summary(topology, threads)
        planned = {"modes": names, "trials": options.trials, "steps": 0, "dropped_steps": 0, "sizes": [],
                   "until_loss": options.until_loss,
                   "left_out": [{"mode": name, "reason": reason} for name, reason in left_out.items()]}  # fmt: skip
        self.log = ComparisonLog(topology.comm, config, self.facts, planned)
        rank_status.set_folder(self.log.folder)
        self.log.begin(config, self.facts, job, self.work.data.notes, left_out)
        if config.inject:
            event = {"what": "inject", "faults": config.inject}
            self.log.write(("event", event), lines=[f"Injected on purpose: {config.inject}"])

    def _start(self, asked: list[Variant], threads: tuple[int, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Build each variant and give it back; return the header's facts, and why variants cannot start here."""
        work, facts, left_out = self.work, dict[str, Any](), dict[str, str]()
        for one in asked:
            own = Workload(work.topology, work.stop, one.config, work.data, work.model)
            with closing(work.topology) as stack:
                try:
                    check_fit(one.config, Origin(), work.topology.comm.size)
                    parts = assemble(one.config.mode, work.topology, Task(one.config, work.data, work.model))
                except JobError as error:
                    work.topology.free()
                    left_out[one.name] = str(error)
                    continue
                stack.callback(parts.sync.close)
                facts = facts or facts_of(own, parts, threads)
        if not facts:
            raise JobError(f"modes: none can start here; {': '.join(next(iter(left_out.items())))}", EXIT_USAGE)
        return facts, left_out

    def run(self) -> int:
        """Train everything; return the exit code. Collective; raises JobError."""
        log = self.log
        try:
            found = summarise(self._trials(), self.options.until_loss)
            lines = [*table_lines(of_losses(found)), "", *found["sentences"]]
            log.write(("loss-comparison", found), lines=lines)
            log.end("ok")
            log.write(lines=[f"Saved in {log.folder}.", f"Read: {commands.reading(log.folder)}"])
        except JobError as error:
            raise log.fail(error) from None
        return EXIT_OK

    def _trials(self) -> list[Record]:
        """Train every variant in every round, each round in another order. Collective."""
        trials = []
        for k in range(self.options.trials):
            records = []
            for place, i in enumerate(order(len(self.variants), k), 1):
                self.rank_status.enter(f"round {k + 1}")
                records.append({"round": k + 1, "place": place, **self.trials.run(self.variants[i])})
            figures = ", ".join(f"{one['mode']} {_end(one)}" for one in records)
            line = f"Round {k + 1}/{self.options.trials}, seconds to the loss: {figures}"
            self.log.write(*(("loss-trial", one) for one in records), lines=[line])
            trials += records
        return trials


def check_validation(data: Dataset) -> None:
    """Raise JobError where there are no rows to take the loss over."""
    if not len(data.validation):
        raise JobError(
            "until_loss: is a loss over validation rows, and there are none; set --validation-fraction above 0, or "
            "give --validation-data",
            EXIT_USAGE,
        )


def _end(trial: Record) -> str:
    if trial["seconds_to_loss"] is not None:
        return number(trial["seconds_to_loss"])
    return "diverged" if trial["diverged"] else f"not reached ({number(trial['loss'])})"
