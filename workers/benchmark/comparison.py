"""A comparison as every rank runs it: warm up, rounds of trials, packet sizes, and what all of it says."""

from functools import partial
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import EXIT_OK, EXIT_STOPPED, JobError
from common.progress import RankStatus
from ps.comm.agreement import at_root
from ps.comm.topology import Topology
from ps.findings.verdict import Verdict
from ps.logfile.records import Record
from ps.metrics.mode_comparison import summarise
from ps.text.comparison_tables import of_fit, of_modes, of_sizes
from ps.text.stdout import say
from workers.benchmark import cost_model, machine
from workers.benchmark.compare_options import CompareConfig
from workers.benchmark.comparison_log import ComparisonLog
from workers.benchmark.trials import DROPPED, Work, order, trial
from workers.benchmark.vectors import Task, one_size
from workers.benchmark.warm_up import Found, warm_up
from workers.launch.blas_threads import limit_threads
from workers.launch.signals import StopFlag
from workers.training.loading import load, make_model


class Comparison:
    """What a rank holds during a comparison; ``journal``: rank 0 only, once the log is open."""

    def __init__(
        self, topology: Topology, config: RunConfig, options: CompareConfig, stop: StopFlag, rank_status: RankStatus
    ) -> None:
        self.topology, self.comm = topology, topology.comm
        self.config, self.options = config, options
        self.stop, self.rank_status = stop, rank_status
        self.journal: ComparisonLog | None = None

    def lead(self) -> ComparisonLog:
        """Return the journal; only for what runs at rank 0."""
        assert self.journal is not None
        return self.journal

    def run(self) -> int:
        """Measure everything; return the exit code. Collective; raises JobError."""
        config, rank_status = self.config, self.rank_status
        threads = limit_threads(self.topology)
        data, _, _ = load(self.comm, config, rank_status)
        work = Work(self.topology, config, data, make_model(self.comm, config, data), self.stop)
        rank_status.phase = "warming up"
        found = warm_up(work, self.options.chosen, threads)
        steps = found.steps(self.options.steps)
        self._open(found, steps)
        trials = self._trials(work, found.usable, steps)
        sweeps = self._sweep(found.usable)
        comparison = summarise(trials, config.dtype)  # the same on all ranks, as the trials are
        at_root(self.comm, lambda: self._conclude(comparison, sweeps, found, steps))
        self._close(comparison, apart=any(one["replicas_equal"] is False for one in trials))
        return EXIT_OK

    def fail(self, error: JobError) -> JobError:
        """Note in the log that all ranks end here; return what is to be raised. Collective."""
        if self.rank_status.folder is None:
            return error
        at_root(self.comm, lambda: self.lead().fail(error))
        if error.exit_code != EXIT_STOPPED:
            return error
        return JobError(f"stopped by a signal; what was measured is in {self.rank_status.folder}", EXIT_STOPPED)

    def _open(self, found: Found, steps: int) -> None:
        """Make the folder and the log, and say what is compared. Collective."""
        job = machine.summary(self.topology, found.threads)

        def open_log() -> str:
            self.journal = journal = ComparisonLog(self.config, self.comm.size)
            journal.header(
                found.facts,
                modes=found.usable,
                trials=self.options.trials,
                steps=steps,
                dropped_steps=DROPPED,
                sizes=list(self.options.vector_sizes),
                left_out=found.left_out,
            )
            model, rows = found.facts["model"], found.facts["data"]["rows"]["train"]
            say(
                f"Model {model['kind']} {'-'.join(map(str, model['sizes']))}, {model['n_parameters']:,} parameters, "
                f"{self.config.optimizer}, {self.config.dtype}; data {found.facts['data']['name']}, {rows} rows, "
                f"{self.config.batch_size or 'all'} a step"
            )
            say(machine.job_line(job))
            for left in found.left_out:
                say(f"Left out: {left['mode']}: {left['reason']}")
            return str(journal.folder)

        self.rank_status.folder = Path(at_root(self.comm, open_log))

    def _trials(self, work: Work, modes: list[str], steps: int) -> list[dict[str, Any]]:
        """Train every mode in every round, each round in another order. Collective."""
        trials = []
        for number in range(self.options.trials):
            self.rank_status.phase = f"round {number + 1}"
            records = [
                {"round": number + 1, "place": place, **trial(work, modes[i], steps)}
                for place, i in enumerate(order(len(modes), number), 1)
            ]
            at_root(self.comm, partial(self._write_round, records))
            trials += records
        return trials

    def _write_round(self, records: list[dict[str, Any]]) -> None:
        self.lead().trials(records, self.options.trials)

    def _write_sweep(self, record: dict[str, Any]) -> None:
        self.lead().log.append("sweep", **record)

    def _sweep(self, modes: list[str]) -> list[dict[str, Any]]:
        """Sum vectors of the sizes asked for; one that does not fit is left out. Collective."""
        task = Task(modes, self.config.dtype, self.options.trials)
        sweeps = []
        for n in self.options.vector_sizes:
            self.rank_status.phase = f"sums of {n} numbers"
            try:
                size = one_size(self.topology, task, n, self.stop)
            except JobError as error:
                if error.exit_code == EXIT_STOPPED:
                    raise
                self.topology.free()
                self._leave_out(n, str(error))
                continue
            keys = ("bytes", "median_s", "low_s", "high_s")
            found = [{"mode": mode, **{key: m[key] for key in keys}} for mode, m in size["modes"].items()]
            record = {"n": n, "rounds": self.options.trials, "sums": size["count"], "modes": found}
            at_root(self.comm, partial(self._write_sweep, record))
            sweeps.append(record)
        return sweeps

    def _leave_out(self, n: int, reason: str) -> None:
        def note() -> None:
            self.lead().log.append("event", what="size-left-out", n=n, message=reason)
            say(f"Left out: sums of {n:,} numbers: {reason}")

        at_root(self.comm, note)

    def _conclude(self, comparison: Record, sweeps: list[dict[str, Any]], found: Found, steps: int) -> None:
        """Write and print what the figures say, at rank 0."""
        journal = self.lead()
        journal.log.append("comparison", **comparison)
        journal.tables(of_modes(comparison, steps))
        for line in ("", *comparison["sentences"]):
            say(line)
        if self.options.vector_sizes:
            fitted = self._fit(sweeps, found)
            journal.log.append("fit", **fitted)
            journal.tables([*of_sizes(sweeps), *of_fit(fitted)])
            say(fitted["warning"])

    def _fit(self, sweeps: list[dict[str, Any]], found: Found) -> dict[str, Any]:
        """Return the fields of the ``fit`` record."""
        ranks, topology, packet_bytes = self.comm.size, self.topology.count, found.facts["packet_bytes"]
        modes = []
        for mode in found.usable:
            own = [m for sweep in sweeps for m in sweep["modes"] if m["mode"] == mode]
            sizes = [(m["bytes"], m["median_s"]) for m in own]
            modes.append(cost_model.report(mode, ranks, topology, sizes, packet_bytes))
        return {"packet_bytes": packet_bytes, "warning": cost_model.warning(topology), "modes": modes}

    def _close(self, comparison: Record, *, apart: bool) -> None:
        """Close the log; raise JobError on all ranks if modes that train alike ended with other parameters.

        ``apart``: whether replicas of one mode differed. Collective.
        """
        odd = {m["mode"]: m["parameter_difference"] for m in comparison["modes"] if not m["agrees"]}
        fault = bool(odd) and (apart or self.config.dtype == "float64")
        verdict = Verdict(
            code="parameters-differ",
            severity="error" if fault else "warning",
            ranks=[],
            text=f"from the same start mode {', '.join(odd)} ended with other parameters",
            remedy="report it" if fault else "repeat with --dtype float64 to tell rounding from a fault",
            evidence={"relative_difference": odd, "allowed": comparison["tolerance"]},
        )

        def close() -> None:
            journal = self.lead()
            if odd:
                journal.verdict(verdict)
            journal.end("failed" if fault else "ok")
            say(f"Saved in {journal.folder}. Read: python -m ps.log show {journal.folder}")

        at_root(self.comm, close)
        if fault:
            raise JobError(f"{verdict.text}; the largest relative differences: {odd}; please report it")
