"""A comparison as every rank runs it: warm-up, rounds of trials, sums of vectors, and the log of the results."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from mpi4py import MPI

from common import commands
from common.config import RunConfig
from common.errors import EXIT_OK, EXIT_STOPPED, JobError
from common.rank_status import RankStatus
from common.wording import count
from ps.comm.agreement import at_root
from ps.comm.topology import Topology
from ps.coordinator.run_folder import make_folder, new_log
from ps.findings.verdict import Verdict
from ps.logfile.records import FORMAT, VERSION, Record
from ps.logfile.writer import RunLog
from ps.metrics.mode_comparison import summarise
from ps.sync.modes import MODES
from ps.text.formatting import number, verdict_line
from ps.text.layout import Table, lines_of, output_width
from ps.text.run_facts import metric_name
from ps.text.tables import of_fit, of_modes, of_sizes
from ps.text.terminal import say
from workers.benchmark import cost_model, machine
from workers.benchmark.options import CompareConfig
from workers.benchmark.runner import Workload, order
from workers.benchmark.scaling import among
from workers.benchmark.step_model import Place
from workers.benchmark.trials import DROPPED, Trials, trial_steps, warm_up
from workers.benchmark.vectors import VectorSums
from workers.launch.blas_threads import limit_threads
from workers.launch.signals import StopRequest
from workers.training.first_look import check_model
from workers.training.task import load, make_model, scale_target


class ComparisonLog:
    """The run folder, the log and what is printed: all ranks call, rank 0 writes. Raises JobError on all ranks."""

    def __init__(self, comm: MPI.Comm, config: RunConfig, facts: dict[str, Any], comparison: dict[str, Any]) -> None:
        """Make the folder and the log with its header; ``comparison``: what will be measured how often."""
        self.comm = comm
        self.started = time.perf_counter()
        self.metric = metric_name(facts["data"])
        self._log: RunLog | None = None  # at rank 0 only
        self.folder = Path(at_root(comm, lambda: self._open(config)))
        head = {"format": FORMAT, "v": VERSION, "purpose": "comparison", "config": config.as_dict()}
        self.write(("header", {**head, **facts, "comparison": comparison}))

    def _open(self, config: RunConfig) -> str:
        folder = make_folder(config.output, f"compare-{self.comm.size}")
        self._log = new_log(folder)
        return str(folder)

    def write(self, *records: tuple[str, Record], lines: Iterable[str] = ()) -> None:
        """Append records, each a kind and its fields, and print lines. Collective."""

        def act() -> None:
            assert self._log is not None
            for kind, fields in records:
                self._log.append(kind, **fields)
            for line in lines:
                say(line)

        at_root(self.comm, act)

    def begin(
        self,
        config: RunConfig,
        facts: dict[str, Any],
        job: dict[str, Any],
        notes: Iterable[str],
        left_out: Mapping[str, str],
    ) -> None:
        """Print what is compared. ``job``: of ``machine.summary``; ``left_out``: modes, and why. Collective."""
        of, rows = facts["model"], facts["data"]["rows"]["train"]
        line = (
            f"Model {of['kind']} {'-'.join(map(str, of['sizes']))}, {of['n_parameters']:,} parameters, "
            f"{config.optimizer}, {config.dtype}; data {facts['data']['name']}, {count(rows, 'row')}, "
            f"{config.batch_size or 'all'} a step"
        )
        left = (f"Left out: {mode}: {reason}" for mode, reason in left_out.items())
        self.write(lines=(line, machine.job_line(job), *notes, *left))

    def end(self, status: str) -> None:
        """Write the last record and close the log. Collective."""
        nothing = dict.fromkeys(("best_epoch", "loss", "validation_loss", "validation_metric"))
        wall_s = time.perf_counter() - self.started
        self.write(("end", {"status": status, "wall_s": wall_s, "epochs": 0, **nothing, "metric": self.metric}))
        if self._log is not None:
            self._log.close()

    def fail(self, error: JobError) -> JobError:
        """End the log of a comparison that all ranks agreed to end; return what is to be raised. Collective."""
        stopped = error.exit_code == EXIT_STOPPED
        self.write(("event", {"what": "stop" if stopped else "error", "message": str(error)}))
        self.end("stopped" if stopped else "failed")
        text = f"stopped by a signal; what was measured is in {self.folder}"
        return JobError(text, EXIT_STOPPED) if stopped else error


def load_work(topology: Topology, config: RunConfig, stop: StopRequest, rank_status: RankStatus) -> Workload:
    """Return the data and the model of a comparison, checked. Collective; raises JobError."""
    comm = topology.comm
    data = load(comm, config, rank_status, asked_to_stop=stop.asked)
    model = scale_target(comm, config, data, make_model(comm, config, data), rank_status)
    check_model(comm, config, data, model)
    return Workload(topology, stop, config, data, model)


class Comparison:
    """A comparison whose modes have each started once and whose log is open."""

    def __init__(
        self, topology: Topology, config: RunConfig, options: CompareConfig, stop: StopRequest, rank_status: RankStatus
    ) -> None:
        """Collective; raises JobError."""
        comm, threads = topology.comm, limit_threads(topology)
        self.work = work = load_work(topology, config, stop, rank_status)
        self.options, self.rank_status = options, rank_status
        rank_status.enter("warming up")
        modes = options.modes.split(",")
        self.facts, step_s, left_out = warm_up(work, modes, threads)
        self.modes = [mode for mode in modes if mode not in left_out]
        self.steps = options.steps or trial_steps(self.facts["steps_per_epoch"], step_s)
        job = machine.summary(topology, threads)
        planned = {"modes": self.modes, "trials": options.trials, "steps": self.steps, "dropped_steps": DROPPED,
                   "sizes": list(options.vector_sizes),
                   "left_out": [{"mode": mode, "reason": reason} for mode, reason in left_out.items()]}  # fmt: skip
        self.log = ComparisonLog(comm, config, self.facts, planned)
        rank_status.set_folder(self.log.folder)
        self.log.begin(config, self.facts, job, work.data.notes, left_out)

    def run(self) -> int:
        """Measure everything; return the exit code. Collective; raises JobError."""
        log = self.log
        try:
            wrong = self._measure()
            log.end("failed" if wrong else "ok")
            log.write(lines=[f"Saved in {log.folder}.", f"Read: {commands.reading(log.folder)}"])
        except JobError as error:
            raise log.fail(error) from None
        if wrong:
            raise JobError(wrong)
        return EXIT_OK

    def _measure(self) -> str:
        """Measure and write; return what is wrong if modes ended with other parameters."""
        trials, sweeps = self._trials(), self._sweeps()
        dtype = self.work.config.dtype
        found = summarise(trials, dtype)  # the same on all ranks, as the trials are
        self.log.write(
            ("comparison", found), lines=(*table_lines(of_modes(found, self.steps)), "", *found["sentences"])
        )
        if self.options.vector_sizes:
            fitted = self._fit(sweeps)
            tables = [*of_sizes(sweeps), *of_fit(fitted, found)]
            self.log.write(("fit", fitted), lines=(*table_lines(tables), fitted["warning"]))
        odd = {m["mode"]: m["parameter_difference"] for m in found["modes"] if not m["agrees"]}
        if not odd:
            return ""
        fault = dtype == "float64" or any(one["replicas_equal"] is False for one in trials)
        verdict = Verdict(
            code="parameters-differ",
            severity="error" if fault else "warning",
            ranks=[],
            text=f"from the same start mode {', '.join(odd)} ended with other parameters",
            remedy="report it" if fault else "repeat with --dtype float64 to tell rounding from a fault",
            evidence={"relative_difference": odd, "allowed": found["tolerance"]},
        )
        self.log.write(("verdict", verdict.fields()), lines=[verdict_line(verdict.fields())])
        return f"{verdict.text}; the largest relative differences: {odd}; please report it" if fault else ""

    def _trials(self) -> list[Record]:
        """Train every mode in every round, each round in another order. Collective."""
        trials, train = [], Trials(self.work, self.steps)
        for k in range(self.options.trials):
            self.rank_status.enter(f"round {k + 1}")
            records = [
                {"round": k + 1, "place": place, **train.run(self.modes[i])}
                for place, i in enumerate(order(len(self.modes), k), 1)
            ]
            figures = ", ".join(f"{one['mode']} {number(1e3 * one['step_s'])}" for one in records)
            line = f"Round {k + 1}/{self.options.trials}: {figures} ms a step"
            self.log.write(*(("trial", one) for one in records), lines=[line])
            trials += records
        return trials

    def _sweeps(self) -> list[Record]:
        """Sum vectors of the sizes asked for; one that does not fit is left out. Collective."""
        work, rounds = self.work, self.options.trials
        sums = VectorSums(work.topology, work.stop, self.modes, work.config.dtype, rounds)
        sweeps = []
        for n in self.options.vector_sizes:
            self.rank_status.enter(f"sums of {n} numbers")
            try:
                size = sums.measure(n)
            except JobError as error:
                if error.exit_code == EXIT_STOPPED:
                    raise
                work.topology.free()
                event = {"what": "size-left-out", "n": n, "message": str(error)}
                self.log.write(("event", event), lines=[f"Left out: sums of {n:,} numbers: {error}"])
                continue
            keys = ("bytes", "median_s", "low_s", "high_s")
            found = [{"mode": mode, **{key: m[key] for key in keys}} for mode, m in size["modes"].items()]
            sweeps.append({"n": n, "rounds": rounds, "sums": size["count"], "modes": found})
            self.log.write(("sweep", sweeps[-1]))
        return sweeps

    def _within_node(self, lengths: list[int]) -> dict[str, list[tuple[int, float]]]:
        """Return bytes and seconds of sums among the ranks of the largest of several nodes, by mode. Collective."""
        work, comm = self.work, self.work.topology.comm
        if work.topology.count == 1 or work.topology.largest == 1:
            return {}
        leaders = work.topology.leaders
        takes_part = leaders[comm.rank] == Counter(leaders).most_common(1)[0][0]
        # the first rank hands on what was found
        ordered = cast("MPI.Intracomm", comm.Split(0, comm.rank if takes_part else comm.size))

        def act(topology: Topology) -> dict[str, Any]:
            sums = VectorSums(topology, work.stop, self.modes, work.config.dtype, self.options.trials)
            found = [sums.measure(n)["modes"] for n in lengths]
            return {mode: [(own[mode]["bytes"], own[mode]["median_s"]) for own in found] for mode in self.modes}

        found = among(ordered, act, takes_part=takes_part)
        ordered.Free()
        return found

    def _fit(self, sweeps: list[Record]) -> Record:
        """Return the fields of the ``fit`` record."""
        topology = self.work.topology
        leaders, nodes = topology.leaders, topology.count
        place = Place(len(leaders), nodes, largest=topology.largest, first=leaders.count(leaders[0]))
        packet_bytes, modes, within = self.facts["packet_bytes"], [], self._within_node([one["n"] for one in sweeps])
        for mode in self.modes:
            sizes = [(m["bytes"], m["median_s"]) for sweep in sweeps for m in sweep["modes"] if m["mode"] == mode]
            modes.append(cost_model.report(MODES[mode], place, sizes, packet_bytes, within.get(mode, ())))
        return {"packet_bytes": packet_bytes, "warning": cost_model.warning(nodes), "modes": modes}


def table_lines(tables: Iterable[Table]) -> Iterator[str]:
    """Yield the lines of tables, each after an empty line."""
    for one in tables:
        yield from ("", *lines_of(one, output_width()))
