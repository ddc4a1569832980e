"""Several runs side by side: a table, what a step costs, and the loss over time."""

import numpy as np

from common.flat import Array
from ps.reader.report.data import PARTS, RunData
from ps.reader.report.figures import ONLY, Chart, Section, Table, axis, bar, clip, label, line
from ps.text.numbers import number, percent
from ps.text.record_lines import metric, mode_name

STEP = {key: name for key, name in PARTS.items() if key not in ("evaluation_s", "checkpoint_s")}
"""What a step is made of."""
EXCHANGE = ("summing", "wait", "transfer")


def side_by_side(runs: list[RunData], names: list[str]) -> Section:
    """Return the comparison of runs, called ``names``; charts are of those that have trained."""
    section = Section("Runs side by side", lead=_table(runs, names))
    trained = [(run, name) for run, name in zip(runs, names, strict=True) if run.n_epochs]
    if trained:
        section.charts = [_step_chart(trained), _loss_chart(trained)]
    return section


def _step_s(run: RunData) -> dict[str, float]:
    """Return the mean seconds of a step by what they were spent on, over ranks and epochs."""
    return {name: float(run.seconds[key].sum()) / max(run.rank_steps, 1) for key, name in STEP.items()}


def _table(runs: list[RunData], names: list[str]) -> Table:
    known = [run.summary.least_loss for run in runs if run.n_epochs]
    goal = max(known) if known else float("nan")
    columns = ["run", "mode", "ranks", "state", "epochs", "findings", "last loss", "last validation metric",
               f"seconds to loss {goal:.4g}", "step, us", "wait, us", "transfer, us", "communication"]  # fmt: skip
    return Table("Runs side by side; means are over ranks and steps", columns, [
        _row(run, name, goal) for run, name in zip(runs, names, strict=True)
    ])  # fmt: skip


def _row(run: RunData, name: str, goal: float) -> list[str]:
    view = run.view
    cells = [name, clip(mode_name(run.header)) if run.header else "-", run.view.ranks or "-"]
    cells += [clip(view.state), str(run.n_epochs), str(view.n_verdicts)]
    if not run.n_epochs:
        return cells + ["-"] * 7
    step = _step_s(run)
    total = sum(step.values())
    cells += [number(view.last["loss"], 6), metric(view.metric, view.last["validation_metric"])]
    cells += [number(run.summary.time_to(goal)), *(number(1e6 * s) for s in (total, step["wait"], step["transfer"]))]
    return [*cells, percent(sum(step[name] for name in EXCHANGE) / total if total > 0 else None)]


def _step_chart(trained: list[tuple[RunData, str]]) -> Chart:
    steps = [_step_s(run) for run, _ in trained]
    totals = [sum(step.values()) for step in steps]
    parts = {part: np.array([s[part] for s in steps]) for part in steps[0]}
    if not parts["summing"].any():
        del parts["summing"]
    return step_chart([name for _, name in trained], parts, totals)


def step_chart(names: list[str], parts: dict[str, Array], totals: list[float]) -> Chart:
    """Return stacked bars of what a step's time went to; ``parts``: seconds, (names,) each; ``totals``: of a step."""
    fast, slow = int(np.argmin(totals)), int(np.argmax(totals))
    labels = [label(name) for name in names]
    return Chart(
        "Time of a step",
        f"A step took {1e6 * totals[fast]:.4g} us in {names[fast]}, the least, and {1e6 * totals[slow]:.4g} us in "
        f"{names[slow]}, the most.",
        {ONLY: [bar(part, labels, 1e6 * values, i) for i, (part, values) in enumerate(parts.items())]},
        {"barmode": "stack", "xaxis": axis("", type="category"), "yaxis": axis("microseconds a step")},
        Table(
            "Microseconds a step, mean over the ranks",
            ["", *parts],
            [[clip(name), *(number(1e6 * v[i]) for v in parts.values())] for i, name in enumerate(names)],
        ),
    )


def _loss_chart(trained: list[tuple[RunData, str]]) -> Chart:
    curves = {name: (run.series("elapsed_s"), run.series("loss")) for run, name in trained}
    return loss_chart(curves)


def loss_chart(curves: dict[str, tuple[Array, Array]]) -> Chart:
    """Return the loss over seconds; ``curves``: both by name."""
    ends = "; ".join(f"{name} reached {y[-1]:.4g} after {x[-1]:.4g} s" for name, (x, y) in curves.items())
    return Chart(
        "Loss over time",
        f"Training loss: {ends}.",
        {ONLY: [line(name, x, y, i) for i, (name, (x, y)) in enumerate(curves.items())]},
        {"xaxis": axis("seconds since the start"), "yaxis": axis("loss")},
    )
