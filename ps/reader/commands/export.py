"""``python -m ps.log export``: the log in another format."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from common.errors import ConfigError
from common.run_files import log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.salvage import SalvageReader
from ps.logfile.schema import Check
from ps.reader.commands.cli import LATEST, Run, Salvage
from ps.reader.export.csv_json import csv_lines, json_lines
from ps.reader.export.markdown import markdown_lines
from ps.reader.export.tensorboard import write_events
from ps.reader.output import STANDARD_OUTPUT, check, save, warn_of_left_out

FORMATS: dict[str, Callable[[Any], Iterator[str]]] = {"csv": csv_lines, "jsonl": json_lines}
OUTPUT = "the file to write; standard output if not given"
TENSORBOARD = "event files in this folder, which tensorboard --logdir shows (extra tensorboard)"


def export(
    run: Run = LATEST,
    /,
    *,
    csv: Annotated[bool, Parameter(help="one line per epoch and rank")] = False,
    jsonl: Annotated[bool, Parameter(help="one JSON object per record")] = False,
    markdown: Annotated[bool, Parameter(help="tables for a report")] = False,
    tensorboard: Annotated[Path | None, Parameter(help=TENSORBOARD)] = None,
    all_ranks: Annotated[bool, Parameter(help="with --markdown: every rank; otherwise some of more than 64")] = False,
    output: Annotated[Path | None, Parameter(alias="-o", help=OUTPUT)] = None,
    salvage: Salvage = False,
) -> int:
    """Write the log in the one format chosen; return the exit code.

    Raises ConfigError, LogError, and RankwiseError where a library is missing.
    """
    formats = [name for name, chosen in (("csv", csv), ("jsonl", jsonl), ("markdown", markdown)) if chosen]
    if len(formats) + (tensorboard is not None) != 1:
        raise ConfigError("export: choose one of --csv, --jsonl, --markdown and --tensorboard")
    if tensorboard is not None and output is not None:
        raise ConfigError("output: not with --tensorboard, which is given its folder; leave --output out")
    if all_ranks and not markdown:
        raise ConfigError("all-ranks: only with --markdown; --csv and --jsonl hold all ranks as they are")
    path = log_path(run)
    # JSON lines hold each intact record as it is, even what the other formats refuse or leave out
    reader: Any = SalvageReader(path, salvage=salvage) if jsonl else DeduplicatedReader(path, Check(), salvage=salvage)
    if tensorboard is not None:
        write_events(reader, tensorboard)
    else:
        lines = markdown_lines(reader, all_ranks=all_ranks) if markdown else FORMATS[formats[0]](reader)
        if output is None or output == STANDARD_OUTPUT:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # as a file is
            sys.stdout.writelines(lines)  # line by line; a file appears once all are there
        else:
            check(output, path)
            save(output, lambda file: file.writelines(line.encode() for line in lines))
    warn_of_left_out(reader.torn, reader.damage)
    return 0
