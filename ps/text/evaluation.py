"""What an evaluation came to, as tables: for the end of training, ``workers.evaluate`` and the log's readers."""

from collections.abc import Iterator
from typing import Any

from common.wording import count, printable
from ps.text.formatting import aligned, number, percent, points
from ps.text.layout import Table

SHARES = ("accuracy", "balanced accuracy", "accuracy by label")
"""Metrics that are told in percent."""
FEW_CLASSES, FEW_IN_MATRIX = 30, 15
"""What training prints of classes; commands print all."""
LONGEST_LABEL = 40
MATRIX = "Confusion matrix: a line for each true class, a column for each predicted one"


def tables(result: dict[str, Any], *, all_classes: bool = False) -> Iterator[Table]:
    """Yield the tables of a result (``Judged.result``): metrics beside the baseline's, classes, confusion matrix.

    ``all_classes``: of very many, too.
    """
    yield _metrics(result)
    if result.get("by_target"):
        yield _by_target(result["by_target"])
    by_class = result.get("by_class") or []
    if by_class and (all_classes or len(by_class) <= FEW_CLASSES):
        yield _by_class(by_class)
    matrix = result.get("matrix") or []
    whole = bool(matrix) and {len(matrix), *map(len, matrix)} == {len(by_class)}
    if whole and (all_classes or len(by_class) <= FEW_IN_MATRIX):
        yield _matrix([label_text(one["label"]) for one in by_class], matrix)


def label_text(label: Any) -> str:
    """Return a label as a table shows it."""
    text = printable(str(label))
    return text if len(text) <= LONGEST_LABEL else f"{text[:LONGEST_LABEL]}..."


def metric_text(name: str, value: float | None) -> str:
    """Return the value of a metric as people read it."""
    return percent(value) if name in SHARES else number(value, 5)


def _metrics(result: dict[str, Any]) -> Table:
    metrics, baseline = result["metrics"], result.get("baseline")
    rows = [[name, metric_text(name, value)] for name, value in metrics.items()]
    columns = ["metric", "model"]
    if baseline:
        columns.append(label_text(baseline["of"]))
        for row in rows:
            row.append(metric_text(row[0], baseline["metrics"].get(row[0])))
    what = f" in the unit of {label_text(result['targets'][0])}" if _has_unit(result) else ""
    return Table(f"Predictions of {count(result['rows'], 'row')}{what}", columns, rows)


def _has_unit(result: dict[str, Any]) -> bool:
    return bool(result["task"] == "regression" and len(result["targets"]) == 1)


def _by_target(lines: list[dict[str, Any]]) -> Table:
    names = list(lines[0]["metrics"])
    rows = [[label_text(line["target"]), *(number(line["metrics"].get(name), 5) for name in names)] for line in lines]
    return Table("By target", ["target", *names], rows)


def _by_class(lines: list[dict[str, Any]]) -> Table:
    shares = [[points(line[name]) for line in lines] for name in ("precision", "recall", "f1")]
    support = [line["support"] for line in lines]
    counts = [f"{n:,.0f}" for n in support] if all(n == int(n) for n in support) else aligned(support)
    columns = [[label_text(line["label"]) for line in lines], *shares, counts]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table("By class", ["class", "precision %", "recall %", "F1 %", "rows"], rows)


def _matrix(labels: list[str], matrix: list[list[float]]) -> Table:
    rows = [[label, *(number(n, 6) for n in row)] for label, row in zip(labels, matrix, strict=True)]
    return Table(MATRIX, ["class", *labels], rows, split=True)
