"""Rank 0's step_faults beside training: the log, progress lines and the decision to stop early."""

import math
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from common import step_times
from common.config import ONLY_ON_COMMAND_LINE, RunConfig, to_toml
from common.errors import JobError
from common.files import write_atomic
from common.flat import Array, Flat
from common.run_files import CONFIG_NAME, LOG_NAME
from ps.findings.detectors import Findings
from ps.findings.verdict import Verdict
from ps.logfile.records import FORMAT, VERSION
from ps.logfile.writer import RetryQueue, RunLog
from ps.metrics import epoch_metrics
from ps.metrics.epoch_metrics import RUN_TIME, useful_s
from ps.metrics.rank_row import NUMBERS
from ps.text.numbers import percent
from ps.text.record_lines import epoch_line, verdict_line
from ps.text.stdout import say, warn

SECONDS = tuple(name for name in NUMBERS if name.endswith("_s"))
"""By rank in an epoch's record, as the ranks hand them in."""


class Coordinator:
    """Writes the log and prints; exists on rank 0 only.

    ``flat``: the model's parameters and their gradient. ``spread``: sum of squared deviations of the validation target
    over its columns' number, by split, for R2; empty for classes.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        flat: Flat,
        spread: dict[str, float],
        *,
        resumed: bool = False,
        lock: bool = True,
    ) -> None:
        """``resumed``: the log is there. ``lock``: see RunLog."""
        self.folder = folder
        self.config = config
        self.names = flat.names
        self.gradient_bytes = flat.grad_vector.nbytes
        self.noise = epoch_metrics.NoiseScale()
        self.metric = "r2" if spread else "accuracy"
        self.spread = spread
        self.started = time.perf_counter()
        self.findings: Findings  # once there is a header
        self.epochs = 0
        self.sync_lines: list[str] = []
        self.best_loss = math.inf
        self.best_epoch = 0
        self.last: dict[str, Any] = {}
        # first: it fails if another job has just taken this folder
        self.log = RunLog(folder / LOG_NAME, new=not resumed, lock=lock)
        self.spool = RetryQueue(self.log, warn)
        saved = {k: v for k, v in config.as_dict().items() if k not in ("output", *ONLY_ON_COMMAND_LINE)}
        write_atomic(folder / CONFIG_NAME, lambda file: file.write(to_toml(saved).encode()))

    def memory(self) -> dict[str, Any]:
        """Return what a later job must know to go on as this one would, as plain values."""
        return {
            "epochs": self.epochs,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "best_epoch": self.best_epoch,
            "noise": [self.noise.trace, self.noise.gradient_sq],
            "elapsed_s": time.perf_counter() - self.started,
            "at": time.time(),
        }

    def recall(self, memory: dict[str, Any], job: dict[str, Any]) -> None:
        """Take up what an earlier job's coordinator knew; ``job``: what the header would say of this one.

        Findings that the log has already are not said again. Raises LogError.
        """
        self.findings = Findings({"config": self.config.as_dict(), **job})
        self.findings.recall(self.log.path)
        if not memory:
            return
        self.epochs = memory["epochs"]
        self.best_loss = math.inf if memory["best_loss"] is None else memory["best_loss"]
        self.best_epoch = memory["best_epoch"]
        self.noise.trace, self.noise.gradient_sq = memory["noise"]
        self.started -= memory["elapsed_s"]

    def checkpointed(self, outcome: Path | Exception) -> None:
        """Note a checkpoint that is written, or warn of one that could not be."""
        if isinstance(outcome, Path):
            self.event("checkpoint", file=outcome.name)
            return
        reason = getattr(outcome, "strerror", None) or str(outcome)
        warn(f"a checkpoint could not be written ({reason}); training goes on, the one before is as it was")
        self.event("checkpoint-failed", reason=reason)

    def header(self, **facts: Any) -> None:
        """Write the first record."""
        record = {"format": FORMAT, "v": VERSION, "config": self.config.as_dict(), **facts}
        self.log.append("header", **record)
        self.findings = Findings(record)

    def event(self, what: str, **fields: Any) -> None:
        """Write an event."""
        self.spool.append("event", what=what, **fields)

    def verdict(self, verdict: Verdict) -> None:
        """Write a finding and print it."""
        self.findings.note(verdict.code, verdict.ranks)
        self.spool.append("verdict", **verdict.fields())
        say(verdict_line(verdict.fields()))

    def epoch(
        self, epoch: int, table: Array, facts: dict[str, Any], n_validation: int, begin_s: float
    ) -> dict[str, bool]:
        """Write and print an epoch from all ranks' rows; return whether to stop and whether it is the best so far.

        ``facts``: what is the same on all ranks (steps, learning rate, sampled steps). ``begin_s``: when the epoch's
        first step began, on rank 0's clock.
        """
        self._check_finite(epoch, table)
        diverged = self.config.init == "broadcast" and len(set(table["fingerprint"].tolist())) > 1
        if not table["rows"].sum() + (facts["before"] or {"rows": 0})["rows"]:
            say(f"Epoch {epoch}: every step was left out")  # the log has them as events; an epoch it was not
            return {"stop": False, "improved": False, "diverged": diverged}
        record = self._record(epoch, table, facts, n_validation)
        self.spool.append("epoch", **record)
        self.spool.append("steps", **self._steps(epoch, table, facts["sampled_steps"], begin_s))
        self._print(epoch, record)
        for verdict in self.findings.add(record):
            self.verdict(verdict)
        return {**self.judge(record), "diverged": diverged}

    def judge(self, record: dict[str, Any], *, told: bool = False) -> dict[str, bool]:
        """Count an epoch by its record; return whether to stop and whether it is the best so far.

        ``told``: if training is to stop, the log says so.
        """
        self.last = record
        self.epochs += 1
        epoch: int = record["epoch"]
        improved = record["validation_loss"] is not None and record["validation_loss"] < self.best_loss
        if improved:
            self.best_loss, self.best_epoch = record["validation_loss"], epoch
        patience = self.config.patience
        stop = bool(patience) and epoch - self.best_epoch >= patience
        if stop and not told:
            self.event("early-stop", epoch=epoch, best_epoch=self.best_epoch, best_validation_loss=self.best_loss)
            say(f"Stopping early: no lower validation loss since epoch {self.best_epoch}, whose parameters are kept.")
        return {"stop": stop, "improved": improved}

    def _record(self, epoch: int, table: Array, facts: dict[str, Any], n_validation: int) -> dict[str, Any]:
        rows = table["rows"]
        loss_by_rank = [s / n if n else None for s, n in zip(table["loss_sum"].tolist(), rows.tolist(), strict=True)]
        steps, before = max(facts["steps"], 1), facts["before"] or {"rows": 0, "loss_sum": 0.0}
        record: dict[str, Any] = {
            "epoch": epoch,
            **facts,
            "elapsed_s": time.perf_counter() - self.started,
            "loss": float((before["loss_sum"] + table["loss_sum"].sum()) / (before["rows"] + rows.sum())),
            "loss_by_rank": loss_by_rank,
            "validation_loss": None,
            "validation_metric": None,
            "rows": rows.astype(int).tolist(),
            **epoch_metrics.contribution(table, self.names),
            "efficiency": epoch_metrics.efficiency(useful_s(table), np.sum([table[k] for k in RUN_TIME], axis=0)),
        }
        record["noise_scale"] = self.noise.update(
            list(record["noise_trace"].values()), list(record["noise_gradient_sq"].values())
        )
        record["preemptions"] = table["preemptions"].astype(int).tolist()
        for name in SECONDS:
            record[name] = table[name].tolist()
        exchange_s = (fmean(record["transfer_s"]) + fmean(record["reduce_s"])) / steps
        record["bus_bytes_per_s"] = epoch_metrics.bus_bandwidth(self.gradient_bytes, len(table), exchange_s)
        record["sent_bytes"] = (table["sent_bytes"] * steps).astype(int).tolist()
        record["fingerprint"] = [f"{int(f):012x}" for f in table["fingerprint"]]
        if n_validation:
            losses, correct = table["validation_loss_sum"].sum(), table["validation_correct"].sum()
            record["validation_loss"] = float(losses / n_validation)
            record["validation_metric"] = self.metric_of("validation", losses, correct, n_validation)
        return record

    def _steps(self, epoch: int, table: Array, sampled: list[int], begin_s: float) -> dict[str, Any]:
        """Return when the phases of the sampled steps ended: whole microseconds since the epoch's first step."""
        moments = table["moments"][:, : len(sampled)]  # ranks, steps, moments
        whole = np.rint((moments - begin_s) * 1e6).astype(np.int64).transpose(2, 1, 0).tolist()
        return {
            "epoch": epoch,
            "steps": sampled,
            "begin_s": begin_s - self.started,
            "moments_us": dict(zip((*step_times.NAMES, "last"), whole, strict=True)),
        }

    def metric_of(self, split: str, loss_sum: float, correct: float, n: int) -> float | None:
        """Return accuracy, or R2 = 1 - squared error / spread (None where the target does not vary)."""
        if self.metric == "accuracy":
            return float(correct / n)
        value = 1 - loss_sum / self.spread[split] if self.spread[split] > 0 else -math.inf
        return float(value) if math.isfinite(value) else None

    def _print(self, epoch: int, record: dict[str, Any]) -> None:
        fields = ("sync_s", "wait_s", "transfer_s", "compute_s", "input_s")
        sync, wait, transfer, compute, copy = (fmean(record[field]) for field in fields)
        if self.config.verbose:
            for rank in range(len(record["rows"])):
                head = f"Process {rank}, Epoch {epoch}: "
                means = (f"grad_{n} mean = {record['gradient_mean'][n][rank]:.4f}" for n in self.names)
                say(head + ", ".join(means))
                parts = (f"{n} = {percent(record['norm_ratio'][n][rank], 'undefined', '%')}" for n in self.names)
                say(head + "Contribution to " + ", ".join(parts))
                say(head + f"Sync time = {record['sync_s'][rank]:.6f} seconds")
        busy = compute + copy + sync
        line = epoch_line(record, self.config.epochs, self.metric)
        say(f"{line}, rate {record['learning_rate']:.3g}, {busy:.3f} s")
        self.sync_lines.append(f"{epoch:5d}  {sync:10.6f}  {wait:10.6f}  {transfer:10.6f}  {sync / busy:8.1%}")

    def _check_finite(self, epoch: int, table: Array) -> None:
        for what, bad in (
            ("parameters", table["finite"] == 0),
            ("validation loss", ~np.isfinite(table["validation_loss_sum"])),
        ):
            if bad.any():
                named = ", ".join(str(r) for r in np.flatnonzero(bad))
                raise JobError(
                    f"{what}: not finite after epoch {epoch} on rank {named}; no model is saved; lower "
                    "--learning-rate, set --clip, or look at the data"
                )

    def finish(self, status: str, **facts: Any) -> None:
        """Write the last verdicts and the end record."""
        for verdict in self.findings.finish() if status == "ok" else ():
            self.verdict(verdict)
        self.spool.append(
            "end",
            status=status,
            wall_s=time.perf_counter() - self.started,
            epochs=self.epochs,
            best_epoch=self.best_epoch or None,
            loss=self.last.get("loss"),
            validation_loss=self.last.get("validation_loss"),
            validation_metric=self.last.get("validation_metric"),
            metric=self.metric,
            **facts,
        )

    def fail(self, message: str) -> None:
        """Close the log of a run that all ranks agreed to end."""
        self.event("error", message=message)
        self.finish("failed")
        if missing := self.spool.missing():
            warn(missing)
