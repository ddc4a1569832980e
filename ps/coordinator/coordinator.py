"""Rank 0's tasks besides training: the log, progress lines and the decision to stop early."""

import math
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from common.config import ONLY_ON_COMMAND_LINE, RunConfig, to_toml
from common.errors import JobError
from common.files import write_atomic
from common.flat import Array
from common.ranges import ranges
from common.run_files import CONFIG_NAME, LOG_NAME
from ps.coordinator.display import Display, Ended, Lines
from ps.coordinator.metric import Metric
from ps.coordinator.run_folder import new_log
from ps.coordinator.speed_balance import SpeedBalance
from ps.coordinator.sync_table import SyncTable
from ps.findings.detectors import Findings
from ps.findings.verdict import Verdict
from ps.logfile.records import FORMAT, VERSION, Record
from ps.logfile.writer import RetryQueue, RunLog
from ps.metrics.epoch_metrics import NoiseScale
from ps.metrics.epoch_record import epoch_record, step_fields
from ps.metrics.sampling_budget import SamplingBudget
from ps.text.formatting import epoch_line, percent, short_losses, verdict_line
from ps.text.terminal import say, warn


def contributions(record: Record, rank: int) -> str:
    """Return what a rank contributed to an epoch, as text: its norm ratio by parameter."""
    shares = record["norm_ratio"].items()
    return ", ".join(f"{name} = {percent(ratios[rank], 'undefined', '%')}" for name, ratios in shares)


class Coordinator:
    """Writes the log and prints; exists on rank 0 only."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        facts: dict[str, Any],
        metric: Metric,
        *,
        resumed: bool = False,
        lock: bool = True,
        display: Display | None = None,
    ) -> None:
        """Open the log. Raises OSError if another job writes to it, LogError, and RankwiseError if it is there but new.

        ``facts``: what the header says of the job (``environment.header_facts``). ``resumed``: the log is there.
        ``lock``: see RunLog. ``display``: shows the progress; without one, each epoch is a line.
        """
        self.folder, self.config, self.facts, self.metric = folder, config, facts, metric
        self.names = list(facts["model"]["parameters"])
        self.gradient_bytes = facts["model"]["n_parameters"] * np.dtype(config.dtype).itemsize
        self.noise = NoiseScale()
        self.sampling = SamplingBudget()
        self.balance = SpeedBalance(config, facts["data"]["rows"]["train"])
        self.started = time.perf_counter()
        self.findings = Findings({"config": config.as_dict(), **facts})
        self.epochs = 0
        self.display = display or Lines(config.epochs, every=config.verbose)
        self.sync_table = SyncTable()
        self.marked = False
        """Whether something has happened since the last epoch that its line is to stay for."""
        self.best_loss = math.inf
        self.best_epoch = 0
        self.patience_from = 0
        self.last: Record = {}
        # first: it fails if another job has just taken this folder
        known = {**facts, "config": config.as_dict()}
        self.log = (
            RunLog(folder / LOG_NAME, new=False, lock=lock, facts=known, warn=warn) if resumed else new_log(folder)
        )
        self.queue = RetryQueue(self.log, warn)
        saved = {k: v for k, v in config.as_dict().items() if k not in ("output", *ONLY_ON_COMMAND_LINE)}
        write_atomic(folder / CONFIG_NAME, lambda file: file.write(to_toml(saved).encode()))

    def memory(self) -> dict[str, Any]:
        """Return what a later job must know to continue as this one would, as plain values."""
        return {
            "epochs": self.epochs,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_epoch": self.best_epoch,
            "patience_from": self.patience_from,
            "noise": [self.noise.trace, self.noise.gradient_sq],
            "elapsed_s": time.perf_counter() - self.started,
            "at": time.time(),
        }

    def recall(self, memory: dict[str, Any], last: Record | None = None) -> None:
        """Take up what an earlier coordinator knew. Findings in the log are not reported again. Raises LogError.

        ``memory``: as much of ``memory()`` as is known. ``last``: the record of the last epoch.
        """
        self.findings.recall(self.log.path)
        self.last = last or {}
        known = {"epochs": 0, "best_loss": None, "best_epoch": 0, "noise": (0.0, 0.0), "elapsed_s": 0.0, **memory}
        self.epochs, self.best_epoch = known["epochs"], known["best_epoch"]
        self.patience_from = known.get("patience_from", 0)
        self.best_loss = math.inf if known["best_loss"] is None else known["best_loss"]
        self.noise.trace, self.noise.gradient_sq = known["noise"]
        self.started -= known["elapsed_s"]

    def rebind(self, facts: dict[str, Any]) -> None:
        """Coordinate other ranks from here on, which have new numbers. Raises LogError."""
        unjudged = self.findings.unjudged
        self.balance.forget()
        self.facts, self.findings = facts, Findings({"config": self.config.as_dict(), **facts})
        self.findings.unjudged.update(unjudged)
        self.findings.recall(self.log.path)

    def _fit_shares(self, record: Record) -> tuple[float, ...]:
        """Return the shares of the ranks in the next epochs' rows; () if they stay as they are."""
        new = self.balance.add(record)
        if new is None:
            return ()
        self.event("shares", **new.fields())
        say(new.sentence())
        return new.shares

    def checkpoint_failed(self, reason: str) -> None:
        """Warn of a checkpoint that could not be written, and log it."""
        warn(f"a checkpoint could not be written ({reason}); training continues without it")
        self.event("checkpoint-failed", reason=reason)

    def header(self, **more: Any) -> None:
        """Write the first record; ``more``: what it says besides the facts of the job."""
        self.log.append("header", format=FORMAT, v=VERSION, config=self.config.as_dict(), **self.facts, **more)

    def event(self, what: str, **fields: Any) -> None:
        """Write an event."""
        self.marked = self.marked or what != "checkpoint"
        self.queue.append("event", what=what, **fields)

    def verdict(self, verdict: Verdict) -> None:
        """Write a finding and print it."""
        self.findings.note(verdict.code, verdict.ranks)
        fields = verdict.fields()
        self.queue.append("verdict", **fields)
        say(verdict_line(fields))

    def epoch(self, table: Array, facts: dict[str, Any], begin_s: float) -> dict[str, Any]:
        """Write and print an epoch from all ranks' rows; return whether to stop and whether it is the best so far.

        Also ``sample_rate``, how many samples a step the next epochs take, and their ``shares`` if these are others.
        ``facts``: what is the same on all ranks (epoch, steps, learning rate, sampled steps, and ``traced_steps``,
        those of them with timestamps). ``begin_s``: when the epoch's first step began, on rank 0's clock.
        """
        facts = dict(facts)
        traced = facts.pop("traced_steps")
        epoch, n_validation = facts["epoch"], self.facts["data"]["rows"]["validation"]
        self._note_watchdogs(table["watchdogs"])
        self._check_finite(epoch, table)
        diverged = self.config.init == "broadcast" and len(set(table["fingerprint"].tolist())) > 1
        if not table["rows"].sum() + (facts["before"] or {"rows": 0})["rows"]:
            say(f"Epoch {epoch}: every step was skipped")  # the log has them as events; an epoch it was not
            return {"stop": False, "improved": False, "diverged": diverged}
        facts = {**facts, "elapsed_s": time.perf_counter() - self.started}
        self._to_target_unit(table, facts)
        record = epoch_record(table, facts, self.names, self.gradient_bytes)
        record["noise_scale"] = self.noise.update(record)
        record["validation_loss"] = record["validation_metric"] = None
        if n_validation:
            losses, score = table["validation_loss_sum"].sum(), table["validation_score"].sum()
            record["validation_loss"] = float(losses / n_validation)
            record["validation_metric"] = self.metric.of("validation", float(score), n_validation)
        self.queue.append("epoch", **record)
        self.queue.append("steps", **step_fields(table, epoch, traced, begin_s, self.started))
        found = self.findings.add(record)
        self.marked = self.marked or bool(found)
        self._print(record)
        for verdict in found:
            self.verdict(verdict)
        rate = self.sampling.rate(record)
        shares = self._fit_shares(record)
        return {**self.judge(record), "diverged": diverged, "sample_rate": rate, "shares": shares}

    def judge(self, record: Record, *, reported: bool = False) -> dict[str, bool]:
        """Count an epoch by its record; return whether to stop and whether it is the best so far.

        ``reported``: if training is to stop, the log says so already.
        """
        self.last = record
        self.epochs += 1
        epoch: int = record["epoch"]
        judged = self.metric.judged(record)
        improved = judged is not None and judged < self.best_loss
        if improved and judged is not None:
            self.best_loss, self.best_epoch = judged, epoch
        patience = self.config.patience
        stop = bool(patience) and epoch - max(self.best_epoch, self.patience_from) >= patience
        if stop and not reported:
            self.display.close()
            mixed, best = self.metric.mixed, self.best_loss
            value = {"best_validation_metric": 1 - best} if mixed else {"best_validation_loss": best}
            self.event("early-stop", epoch=epoch, best_epoch=self.best_epoch, **value)
            what = "validation R2 was highest" if mixed else "validation loss was lowest"
            say(f"Stopping early: the {what} after epoch {self.best_epoch}, which is kept.")
        return {"stop": stop, "improved": improved}

    def _print(self, record: Record) -> None:
        epoch = record["epoch"]
        fields = ("sync_s", "wait_s", "transfer_s", "compute_s", "input_s")
        sync, wait, transfer, compute, copy = (fmean(record[field]) for field in fields)
        if self.config.verbose:
            for rank in range(len(record["rows"])):
                head = f"Process {rank}, Epoch {epoch}: "
                means = (f"grad_{n} mean = {record['gradient_mean'][n][rank]:.4f}" for n in self.names)
                say(head + ", ".join(means))
                say(head + "Contribution to " + contributions(record, rank))
                say(head + f"Sync time = {record['sync_s'][rank]:.6f} seconds")
        busy = compute + copy + sync
        line = epoch_line(record, self.config.epochs, self.metric.name)
        line = f"{line}, rate {record['learning_rate']:.3g}, {busy:.3f} s"
        self.display.epoch(Ended(epoch, line, short_losses(record, self.metric.name), self.marked))
        self.marked = False
        self.sync_table.add(epoch, (sync, wait, transfer, busy))

    def _to_target_unit(self, table: Array, facts: dict[str, Any]) -> None:
        """Bring the sums of losses, which are of standardised targets, to the targets' unit."""
        unit = self.metric.unit
        if unit == 1:
            return
        for name in ("loss_sum", "validation_loss_sum"):
            table[name] *= unit
        if facts["before"]:
            facts["before"] = {**facts["before"], "loss_sum": facts["before"]["loss_sum"] * unit}

    def _note_watchdogs(self, new: Array) -> None:
        """Log the watchdogs that ranks have started in place of others; ``new``: how many, by rank."""
        for rank in np.flatnonzero(new).tolist():
            host = next((node["host"] for node in self.facts["nodes"] if rank in node["ranks"]), "an unknown host")
            self.event(
                "watchdog",
                rank=rank,
                host=host,
                message=f"the watchdog of {host} was gone; rank {rank} started another",
            )

    def _check_finite(self, epoch: int, table: Array) -> None:
        for what, bad in (
            ("parameters", table["finite"] == 0),
            ("validation loss", ~np.isfinite(table["validation_loss_sum"])),
        ):
            if bad.any():
                named = ranges(np.flatnonzero(bad).tolist())
                raise JobError(
                    f"{what}: not finite after epoch {epoch} on rank {named}; no model is saved; lower --learning-rate "
                    f"or set --clip (also with --resume {self.folder}, from the last checkpoint), or look at the data"
                )

    def finish(self, status: str, **facts: Any) -> None:
        """Write the last verdicts and the end record."""
        self.display.close()
        for verdict in self.findings.finish() if status == "ok" else ():
            self.verdict(verdict)
        self.queue.append("end", **self.end_record(status, **facts))

    def end_record(self, status: str, **facts: Any) -> dict[str, Any]:
        """Return what the log's last record says."""
        return {
            "status": status,
            "wall_s": time.perf_counter() - self.started,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch or None,
            "loss": self.last.get("loss"),
            "validation_loss": self.last.get("validation_loss"),
            "validation_metric": self.last.get("validation_metric"),
            "metric": self.metric.name,
            "not_judged": self.findings.not_judged(),
            **facts,
        }

    def fail(self, message: str) -> None:
        """Close the log of a run that all ranks agreed to end."""
        self.event("error", message=message)
        self.finish("failed")
        if missing := self.queue.missing():
            warn(missing)
