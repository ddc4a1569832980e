"""The section on the test rows: metrics beside the baseline's, classes, the confusion matrix, residuals."""

from typing import Any

import numpy as np

from common.wording import count
from ps.logfile.records import Record
from ps.reader.report import charts
from ps.reader.report.charts import Chart, PageTable, Section, axis, compact, label
from ps.text import evaluation
from ps.text.formatting import number
from ps.text.layout import Table

MOST_LABELLED = 20
"""Classes up to which the cells of the confusion matrix have their numbers in them."""
SHADES = [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,0.85)"]]
"""Of a cell: through the lightest the page is seen, white or dark."""
MOST_CLASSES = 200
MOST_PLOTS, MOST_POINTS = 8, 1000


def predictions(scores: Record) -> Section:
    """Return the section of an end record's ``test``."""
    few = len(scores.get("by_class") or []) <= MOST_CLASSES
    lead, *others = (_page_table(table) for table in evaluation.tables(scores, all_classes=few))
    drawn: list[Chart] = []
    if any(table.caption.startswith(evaluation.MATRIX) for table in others):
        drawn.append(_confusion(scores))
        others = [table for table in others if not table.caption.startswith(evaluation.MATRIX)]
    if scores.get("points"):
        drawn += _residuals(scores)
    return Section("Test rows", lead=lead, charts=drawn, tables=others, open=True)


def _page_table(table: Table) -> PageTable:
    return PageTable(table.title, list(table.columns), table.rows)


def _confusion(scores: Record) -> Chart:
    labels = [label(evaluation.label_text(one["label"])) for one in scores["by_class"]]
    counts = np.array(scores["matrix"], np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    wrong = counts - np.diag(np.diag(counts))
    summary = "No test row is taken for another class."
    if wrong.any():
        true, predicted = np.unravel_index(int(wrong.argmax()), wrong.shape)
        n = number(float(wrong[true, predicted]), 6)
        summary = (
            f"Most often confused: {n} of {number(float(rows[true, 0]), 6)} rows of class {labels[true]} are taken for "
            f"{labels[predicted]}."
        )
    places = list(range(len(labels)))
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": compact(shares),
        "text": [[number(n, 6) for n in row] for row in counts.tolist()],
        "zmin": 0,
        "zmax": 1,
        "colorscale": SHADES,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "of the true class"}, "tickformat": ".0%"},
        "hovertemplate": "true %{y}, predicted %{x}: %{text} rows, %{z:.1%}<extra></extra>",
    }
    if len(labels) <= MOST_LABELLED:
        trace |= {"texttemplate": "%{text}"}
    ticks = {"tickvals": places, "ticktext": labels}
    layout = {
        "xaxis": axis("predicted class", **ticks),
        "yaxis": axis("true class", autorange="reversed", **ticks),
    }
    titles = [evaluation.label_text(one["label"]) for one in scores["by_class"]]
    cells = [[name, *(number(n, 6) for n in row)] for name, row in zip(titles, counts.tolist(), strict=True)]
    return Chart(
        "Confusion matrix", summary, [[trace]], layout, PageTable(evaluation.MATRIX, ["class", *titles], cells)
    )


def _residuals(scores: Record) -> list[Chart]:
    """Return a chart of errors over true values for each target whose points the log has."""
    points, targets = scores["points"], scores["targets"]
    pairs = zip(points["true"][:MOST_POINTS], points["predicted"][:MOST_POINTS], strict=False)
    whole = [(true, predicted) for true, predicted in pairs if len(true) == len(predicted) > 0]
    n = min((len(true) for true, _ in whole), default=0)
    return [
        _residual(whole, k, targets[k] if k < len(targets) else f"target {k + 1}") for k in range(min(n, MOST_PLOTS))
    ]


def _residual(pairs: list[tuple[list[float], list[float]]], k: int, target: str) -> Chart:
    true, predicted = (np.array([values[k] for values in side], np.float64) for side in zip(*pairs, strict=True))
    errors = predicted - true
    name = evaluation.label_text(target)
    worst = int(np.abs(errors).argmax())
    summary = (
        f"Predicted minus true {name} of {count(len(errors), 'test row')}. The median error is "
        f"{number(float(np.median(errors)))}; the largest is {number(float(errors[worst]))}, where the true value is "
        f"{number(float(true[worst]))}."
    )
    trace = {
        **charts.line(name, true, errors, "validation"),
        "mode": "markers",
        "marker": {"size": 5, "opacity": 0.6},
        "hovertemplate": "true %{x:.4g}, error %{y:.4g}<extra></extra>",
    }
    ends = np.array([true.min(), true.max()])
    layout = {"xaxis": axis(label(f"true {name}")), "yaxis": axis("predicted - true")}
    quantiles = (0, 10, 25, 50, 75, 90, 100)
    values = np.percentile(errors, quantiles)
    table = PageTable(
        f"Errors of {name}", ["percentile", "predicted - true"],
        [[str(q), number(float(v))] for q, v in zip(quantiles, values, strict=True)],
    )  # fmt: skip
    return Chart(f"Residuals of {name}", summary, [[trace, charts.level("no error", ends, 0.0)]], layout, table)
