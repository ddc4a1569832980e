"""The result of ``workers.compare``: modes that were measured in turn, in one job."""

import numpy as np

from common.flat import Array
from ps.logfile.records import Record
from ps.reader.report.data import RunData
from ps.reader.report.figures import Section, Table, clip
from ps.reader.report.side_by_side import loss_chart, step_chart
from ps.text import comparison_tables

PARTS = ("input_s", "compute_s", "wait_s", "transfer_s")


def comparison(data: RunData) -> Section:
    """Return the tables and charts of a comparison, as far as it got."""
    section = Section("Modes side by side")
    contents = data.measured
    found = contents.result(data.header["config"]["dtype"])
    if not found:
        section.notes.append("The comparison has no result: it was ended before all its trials were done.")
    else:
        if not contents.comparison:
            section.notes.append(
                f"No result was written; this is what the {len(contents.trials)} trials in the log say."
            )
        section.notes += [clip(sentence, 1000) for sentence in found["sentences"]]
        modes = found["modes"]
        parts = {key.removesuffix("_s"): np.array([m[key]["median"] for m in modes]) for key in PARTS}
        names = [m["mode"] for m in modes]
        if modes:
            section.charts.append(step_chart(names, parts, [m["step_s"]["median"] for m in modes]))
        steps = data.header.get("comparison", {}).get("steps", 0)
        section.lead, *section.tables = _tables(comparison_tables.of_modes(found, steps))
    if curves := _curves(contents.trials):
        section.charts.append(loss_chart(curves))
    section.tables += _tables(comparison_tables.of_sizes(contents.sweeps))
    if contents.fit:
        section.tables += _tables(comparison_tables.of_fit(contents.fit))
        section.notes.append(clip(contents.fit["warning"], 1000))
    return section


def _curves(trials: list[Record]) -> dict[str, tuple[Array, Array]]:
    """Return seconds and loss of the first trial of each mode."""
    curves: dict[str, tuple[Array, Array]] = {}
    for trial in trials:
        if len(trial["curve_s"]) == len(trial["curve_loss"]) > 0:
            curves.setdefault(trial["mode"], (np.array(trial["curve_s"], float), np.array(trial["curve_loss"], float)))
    return curves


def _tables(found: list[comparison_tables.Table]) -> list[Table]:
    return [Table(t.title, t.columns, [[clip(cell, 200) for cell in row] for row in t.rows]) for t in found]
