"""``python -m ps.log report``: writes one page with findings, charts and tables that opens without a network."""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from common.run_files import log_path
from ps.reader.commands.cli import LATEST, OtherRun, Output, Run, Salvage
from ps.reader.output import check, save, say_saved
from ps.reader.report.data import RunData
from ps.reader.report.page import render, template_and_plotly

ALL_RANKS = "every rank in tables and bars by rank; otherwise of more than 32 those that stand out"


def report(
    run: Run = LATEST,
    /,
    *more: OtherRun,
    output: Output = Path("report.html"),
    all_ranks: Annotated[bool, Parameter(help=ALL_RANKS)] = False,
    salvage: Salvage = False,
) -> int:
    """Write the page; return the exit code.

    Raises ConfigError if ``output`` cannot be written, LogError for a broken log, RankwiseError without one or without
    the libraries that make the page.
    """
    runs = [run, *more]
    libraries = template_and_plotly()  # one that is missing, or a wrong output, is reported before a long log is read
    check(output, *(log_path(run) for run in runs))
    with np.errstate(all="ignore"):  # figures of a foreign log may overflow when added; they are shown as undefined
        page = render(*libraries, [RunData(run, salvage=salvage, all_ranks=all_ranks) for run in runs])
    save(output, lambda file: file.write(page.encode()))
    say_saved(output, f"Wrote {output}, {len(page) / 1e6:.1f} MB; it opens in any browser, without a network.")
    return 0
