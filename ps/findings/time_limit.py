"""Verdict ``time-limit``: the job will be ended before the last epoch."""

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from common.wording import count, duration
from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

RECENT = 10
MIN_EPOCHS = 3
SURE, AT_ONCE = 1.1, 2.0
"""So much more than what is left must be needed: after some epochs, and after the first, which takes longer."""
LONG_S = 10.0
"""An epoch so long says enough alone."""
STOP_BEFORE_S = 120.0
"""So long before its limit a job is stopped that is to be queued again, as the batch scripts ask for; else it says."""


class TimeLimit(Detector):
    """The epochs that are left take longer than the time that is left until the batch job is ended."""

    code = "time-limit"
    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        config = header["config"]
        self.epochs, self.patience = config["epochs"], config.get("patience", 0)
        self.limit: dict[str, float | None] = header.get("time_limit") or {}
        said = self.limit.get("stop_before_s")
        self.stop_before_s = STOP_BEFORE_S if said is None else said
        self.durations: deque[float] = deque(maxlen=RECENT)
        self.last = self.began = header.get("t") or self.clock()

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        now = epoch.get("t") or self.clock()  # a record that is read has its time
        spent, self.last = now - self.last, now
        if not self.limit:
            return None
        if not epoch.get("before"):  # else an earlier job has done a part of it
            self.durations.append(spent)
        number, n = epoch["epoch"], len(self.durations)
        if not n or (n < MIN_EPOCHS and self.durations[-1] < LONG_S):
            return None
        each = median(self.durations if n == 1 or n == RECENT else list(self.durations)[1:])
        needed, requeues = each * (self.epochs - number), self.limit["requeues"]
        left = (self.limit["ends"] or math.inf) - now
        if left <= 0:  # that of an earlier job, in a log that is read
            return None
        usable = max(0.0, left - (0.0 if requeues is None else self.stop_before_s))
        if needed <= (SURE if n > 1 else AT_ONCE) * usable:
            return None
        gets_done, text, remedy = self._said(needed, left, usable, each, number)
        return Verdict(
            code=self.code,
            severity="info" if gets_done else "warning",
            ranks=[],
            text=text,
            remedy=remedy,
            evidence={
                "epoch": number, "epoch_s": each, "needed_s": needed, "left_s": left, "limit_s": self.limit["limit_s"],
                "requeues_left": requeues,
            },
        )  # fmt: skip

    def _said(self, needed: float, left: float, usable: float, each: float, number: int) -> tuple[bool, str, str]:
        """Return whether the run gets done all the same, what will happen, and what to do."""
        most = "up to " if self.patience else ""
        text = f"needs {most}{duration(needed)} more, limit in {duration(left)}: "
        whole = self.limit["limit_s"]
        longer = f"a time limit of at least {duration(1.1 * needed + (whole or left) - left)}"
        longer += " (--patience may stop it before)" if self.patience else ""
        allowed = self.limit["requeues"]
        if not allowed:
            reached = min(self.epochs - 1, number + int(usable / each))
            other = ", or submit it with slurm/train.sbatch, which queues it again" * (allowed is None)
            return (
                False,
                f"{text}will be ended about epoch {reached:,} of {self.epochs:,}, and not queued again",
                f"give it {longer}{other}; what is saved by then continues with --resume",
            )
        # each start takes as long as this one took, from the job's begin to its first epoch
        begin = max(0.0, self.began - ((self.limit["ends"] or 0.0) - whole)) if whole else 0.0
        a_job = (whole or left) - self.stop_before_s - begin
        if a_job <= 0:
            return (
                False,
                f"{text}too short to be requeued {duration(self.stop_before_s)} before its end and get on",
                f"give it {longer}, or at least some minutes more",
            )
        times = max(1, math.ceil((needed - usable) / a_job))
        if times > allowed:
            will = count(int(allowed), "time")
            each_job = duration(a_job * times / max(1, allowed) + self.stop_before_s + begin)
            return (
                False,
                f"{text}would have to be requeued {count(times, 'time')}, but will be only {will}",
                f"give it {longer}, or at least one of {each_job}",
            )
        return True, f"{text}will be requeued {count(times, 'time')}", f"to do without, give it {longer}"
