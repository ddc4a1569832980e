"""The sections that compare: several runs side by side, and modes that ``workers.compare`` measured in one job."""

import numpy as np

from common.flat import Array
from ps.reader.comparison_view import until_loss
from ps.reader.report.charts import Chart, PageTable, Section, axis, bars, clip, label, line, number_table, scaled
from ps.reader.report.colours import SHARED_TRANSFER
from ps.reader.report.data import RunData
from ps.reader.report.differences import STEP, differences
from ps.reader.report.findings import n_found
from ps.text.formatting import metric, microseconds, mode_name, number, percent
from ps.text.layout import Table
from ps.text.tables import of_fit, of_losses, of_modes, of_sizes

EXCHANGE = ("summing", "wait", "transfer")
OF_MODE = ("input", "compute", "wait", "transfer")


def side_by_side(runs: list[RunData], names: list[str]) -> Section:
    """Return the comparison of runs, called ``names``; charts and differences are of those that have trained."""
    trained = [(name, run) for name, run in zip(names, runs, strict=True) if run.n_epochs]
    goal = max((run.summary.least_loss for _, run in trained), default=float("nan"))
    columns = [
        *("run", "mode", "ranks", "state", "epochs", "findings", "test metric", "last loss", "last validation metric"),
        *(f"seconds to loss {goal:.4g}", "step, us", "wait, us", "transfer, us", "communication"),
    ]
    rows = [_row(run, name, goal) for run, name in zip(runs, names, strict=True)]
    charts, notes, tables = [], list[str](), list[PageTable]()
    if len(trained) > 1:
        table, notes = differences([run for _, run in trained], [name for name, _ in trained])
        tables = [table]
    if trained:
        steps = [_step_s(run) for _, run in trained]
        parts = {part: np.array([step[part] for step in steps]) for part in steps[0]}
        charts = [
            _step_chart([name for name, _ in trained], parts, [sum(step.values()) for step in steps]),
            _loss_chart({name: (run.series("elapsed_s"), run.series("loss")) for name, run in trained}),
        ]
    sharing = [name for name, run in trained if run.sharing]
    if sharing:
        notes.append(f"Ranks share cores in {', '.join(sharing)}: transfer also holds waiting for a core there.")
    lead = PageTable("Runs side by side; means are over ranks and steps", columns, rows)
    return Section("Runs side by side", notes, lead, charts, tables, open=True)


def _tested(run: RunData) -> float | None:
    value = run.view.end.get("test_metric")
    return value if isinstance(value, float) else None


def _step_s(run: RunData) -> dict[str, float]:
    """Return the mean seconds of a step by what they were spent on, over ranks and epochs."""
    return {name: float(run.seconds[key].sum()) / max(run.rank_steps, 1) for key, name in STEP.items()}


def _row(run: RunData, name: str, goal: float) -> list[str]:
    view = run.view
    cells = [name, clip(mode_name(run.header)) if run.header else "-", view.ranks or "-"]
    cells += [clip(view.state), str(run.n_epochs), f"{n_found(run):,}", metric(view.metric, _tested(run))]
    if not run.n_epochs:
        return cells + ["-"] * 7
    step = _step_s(run)
    total = sum(step.values())
    cells += [number(view.last.get("loss"), 6), metric(view.metric, view.last.get("validation_metric"))]
    cells += [number(run.summary.time_to(goal)), *(microseconds(s) for s in (total, step["wait"], step["transfer"]))]
    return [*cells, percent(sum(step[name] for name in EXCHANGE) / total if total > 0 else None)]


def _step_chart(names: list[str], parts: dict[str, Array], totals: list[float]) -> Chart:
    """Return stacked bars of what a step's time went to; ``parts``: seconds, (names,) each; ``totals``: of a step."""
    fast, slow = int(np.argmin(totals)), int(np.argmax(totals))
    labels, columns = [label(name) for name in names], {part: 1e6 * values for part, values in parts.items()}
    return Chart(
        "Time of a step",
        f"A step took {microseconds(totals[fast])} us in {names[fast]}, the least, and {microseconds(totals[slow])} us "
        f"in {names[slow]}, the most.",
        [bars(labels, columns)],
        {"barmode": "stack", "xaxis": axis("", type="category"), "yaxis": axis("microseconds a step")},
        number_table("Microseconds a step, mean over the ranks", "", [clip(name) for name in names], columns),
    )


def _loss_chart(curves: dict[str, tuple[Array, Array]], of: str = "Training") -> Chart:
    """Return the loss over seconds; ``curves``: both by name; ``of``: which rows."""
    ends = "; ".join(f"{name} reached {y[-1]:.4g} after {x[-1]:.4g} s" for name, (x, y) in curves.items())
    return Chart(
        "Loss over time",
        f"{of} loss: {ends}.",
        [[line(name, x, y, i) for i, (name, (x, y)) in enumerate(curves.items())]],
        {"xaxis": axis("seconds since the start"), "yaxis": scaled("loss", *(y for _, y in curves.values()))},
        number_table(
            "Loss over time",
            "",
            [clip(name) for name in curves],
            {
                "first loss": np.array([y[0] for _, y in curves.values()]),
                "lowest loss": np.array([np.nanmin(y) for _, y in curves.values()]),
                "last loss": np.array([y[-1] for _, y in curves.values()]),
                "seconds": np.array([x[-1] for x, _ in curves.values()]),
            },
        ),
    )


def modes(data: RunData) -> Section:
    """Return the tables and charts of a comparison of modes, as far as it got."""
    measured, lead, notes, charts, tables = data.measured, None, [], [], list[PageTable]()
    found = measured.result(data.header)
    if not found:
        notes.append("The comparison has no result: it was ended before all its trials were done.")
    else:
        if not measured.comparison:
            notes.append(f"No result was written; this is what the {len(measured.trials)} trials in the log say.")
        notes += [clip(sentence, 1000) for sentence in found["sentences"]]
        goal = until_loss(data.header)
        if (compared := found["modes"]) and not goal:
            parts = {part: np.array([m[f"{part}_s"]["median"] for m in compared]) for part in OF_MODE}
            if data.sharing:
                parts[SHARED_TRANSFER] = parts.pop("transfer")
            totals = [m["step_s"]["median"] for m in compared]
            charts.append(_step_chart([m["mode"] for m in compared], parts, totals))
        steps = data.header.get("comparison", {}).get("steps", 0)
        lead, *tables = _tables(of_losses(found) if goal else of_modes(found, steps))
    curves: dict[str, tuple[Array, Array]] = {}  # of the first trial of each mode
    for trial in measured.trials:
        if len(trial["curve_s"]) == len(trial["curve_loss"]) > 0:
            curves.setdefault(trial["mode"], (np.array(trial["curve_s"], float), np.array(trial["curve_loss"], float)))
    if curves:
        charts.append(_loss_chart(curves, "Validation" if until_loss(data.header) else "Training"))
    tables += _tables(of_sizes(measured.sweeps))
    if measured.fit:
        tables += _tables(of_fit(measured.fit, found))
        notes.append(clip(measured.fit["warning"], 1000))
    return Section("Modes side by side", notes, lead, charts, tables)


def _tables(found: list[Table]) -> list[PageTable]:
    return [PageTable(t.title, t.columns, [[clip(cell, 200) for cell in row] for row in t.rows]) for t in found]
