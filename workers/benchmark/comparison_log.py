"""Rank 0's side of a comparison: the folder, the log, and what is printed."""

import time
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import EXIT_STOPPED, JobError
from common.run_files import LOG_NAME
from ps.coordinator.run_folder import make_folder
from ps.findings.verdict import Verdict
from ps.logfile.records import FORMAT, VERSION
from ps.logfile.writer import RunLog
from ps.text.comparison_tables import Table
from ps.text.numbers import number
from ps.text.plain_table import table
from ps.text.record_lines import verdict_line
from ps.text.stdout import say

PURPOSE = "comparison"


class ComparisonLog:
    """Writes and prints; exists on rank 0 only."""

    def __init__(self, config: RunConfig, n_ranks: int) -> None:
        """Make the folder and the log. Raises RankwiseError or OSError."""
        self.config = config
        self.folder: Path = make_folder(config.output, "compare", n_ranks)
        self.log = RunLog(self.folder / LOG_NAME)
        self.started = time.perf_counter()
        self.metric = "accuracy"
        self.open = True

    def header(self, facts: dict[str, Any], **comparison: Any) -> None:
        """Write the first record; ``comparison``: what will be measured how often."""
        self.metric = "accuracy" if facts["data"]["classes"] is not None else "r2"
        self.log.append(
            "header",
            format=FORMAT,
            v=VERSION,
            purpose=PURPOSE,
            config=self.config.as_dict(),
            **facts,
            comparison=comparison,
        )

    def trials(self, records: list[dict[str, Any]], of: int) -> None:
        """Write a round and print a line on it."""
        for record in records:
            self.log.append("trial", **record)
        figures = ", ".join(f"{r['mode']} {number(1e3 * r['step_s'])}" for r in records)
        say(f"Round {records[0]['round']}/{of}: {figures} ms a step")

    def verdict(self, verdict: Verdict) -> None:
        """Write a finding and print it."""
        self.log.append("verdict", **verdict.fields())
        say(verdict_line(verdict.fields()))

    def tables(self, tables: list[Table]) -> None:
        """Print tables, each after an empty line."""
        for one in tables:
            for line in ("", one.title, *table(one.columns, one.rows)):
                say(line)

    def end(self, status: str) -> None:
        """Write the last record."""
        self.log.append(
            "end",
            status=status,
            wall_s=time.perf_counter() - self.started,
            epochs=0,
            best_epoch=None,
            loss=None,
            validation_loss=None,
            validation_metric=None,
            metric=self.metric,
        )
        self.log.close()
        self.open = False

    def fail(self, error: JobError) -> None:
        """Close the log of a comparison that all ranks agreed to end, if it is not closed."""
        if not self.open:
            return
        self.log.append("event", what="stop" if error.exit_code == EXIT_STOPPED else "error", message=str(error))
        self.end("stopped" if error.exit_code == EXIT_STOPPED else "failed")
