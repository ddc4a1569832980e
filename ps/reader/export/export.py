"""``python -m ps.log export``: the log in another format."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import ConfigError
from common.run_files import log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.reader import LogReader
from ps.logfile.schema import Check
from ps.reader.export.csv_lines import csv_lines
from ps.reader.export.json_lines import json_lines
from ps.reader.export.markdown import markdown_lines
from ps.reader.export.tensorboard import write_events
from ps.reader.output import save, tell_torn

FORMATS: dict[str, Callable[[DeduplicatedReader], Iterator[str]]] = {"csv": csv_lines, "markdown": markdown_lines}
"""Of the run as it counts; JSON lines are of the log as it is."""


def export(
    run: Path,
    *,
    csv: bool = False,
    jsonl: bool = False,
    markdown: bool = False,
    tensorboard: Path | None = None,
    output: Path | None = None,
) -> int:
    """Write the log in the one format chosen; return the exit code.

    Raises ConfigError, LogError, and RankwiseError where a library is missing.
    """
    formats = [name for name, chosen in (("csv", csv), ("jsonl", jsonl), ("markdown", markdown)) if chosen]
    if len(formats) + (tensorboard is not None) != 1:
        raise ConfigError("export: choose one of --csv, --jsonl, --markdown and --tensorboard")
    if tensorboard is not None and output is not None:
        raise ConfigError("output: not with --tensorboard, which is given its folder; leave --output out")
    path = log_path(run)
    if jsonl:  # takes any intact record as it is: the way to see what is in a log that the tables refuse or leave out
        raw = LogReader(path)
        _write(json_lines(raw), output, path)
        tell_torn(raw.torn)
        return 0
    reader = DeduplicatedReader(path, Check())
    if tensorboard is not None:
        write_events(reader, tensorboard)
    else:
        _write(FORMATS[formats[0]](reader), output, path)
    tell_torn(reader.torn)
    return 0


def _write(lines: Iterator[str], output: Path | None, log: Path) -> None:
    """Write to standard output as the lines come, or to a file once all are there."""
    if output is not None:
        save(output, lambda file: file.writelines(line.encode() for line in lines), log=log)
        return
    for line in lines:
        sys.stdout.write(line)
