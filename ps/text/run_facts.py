"""What a job trains, where and how, as the three lines that open its output and ``ps.log show``."""

from common.ranges import FEW, node_ranges
from common.wording import count, listed
from ps.logfile.records import Record
from ps.text.formatting import milliseconds, mode_name, model_name

LOSSES = {
    "SoftmaxCrossEntropy": "cross-entropy",
    "LogisticCrossEntropy": "cross-entropy",
    "MeanSquaredError": "squared error",
}
"""The loss functions' names in the log, as people call them; a model of one's own may have another."""


def job_lines(header: Record, ranks: str = "") -> list[str]:
    """Return mode, ranks and hosts; data and task; model and parameters: a line each.

    ``header``: a log's header, or its facts with ``config``, ``sync`` and ``steps_per_epoch``. ``ranks``: the numbers
    of ranks of a run that had several.
    """
    config, model = header["config"], header["model"]
    batch = f"batch {config['batch_size']:,}" if config["batch_size"] else "all rows in a batch"
    length = f"{count(config['epochs'], 'epoch')} of {count(header['steps_per_epoch'], 'step')}"
    return [
        f"Mode {mode_name(header)}, {where(header, ranks)}",
        data_line(header["data"]),
        f"Model {model_name(header)}: {count(model['n_parameters'], 'parameter')}, {config['optimizer']}, {batch}, "
        f"{length}",
        *sum_lines(header["sync"].get("sum")),
        *binding_lines(header),
    ]


def sum_lines(chosen: Record | None) -> list[str]:
    """Return in a line how packets are summed, and what else was tried, if there was a choice."""
    if not chosen:
        return []
    measured = chosen["measured"] or ()
    tried = ", ".join(f"{one['way']} {1e3 * one['least_s']:.3g} ms" for one in measured)
    return [f"Sums across nodes: {chosen['way']}{f', measured at the start: {tried}' if tried else ''}"]


def binding_lines(header: Record) -> list[str]:
    """Say in a line that ranks may move between cores, on machines where their memory is then far away."""
    if header.get("bound") is not False or (header.get("memory_nodes") or 1) < 2:
        return []
    return [
        f"Ranks are not bound to cores, though the memory has {header['memory_nodes']} parts, each near some of them: "
        "bind them (mpirun -bind-to core)"
    ]


def trials_line(trials: list[Record]) -> str:
    """Return what mode auto has measured of each mode, fastest first."""
    measured = [f"{t['mode']} {milliseconds(t['median_s'])} ms" for t in trials if t["median_s"] is not None]
    steps = [t["steps"] for t in trials if t["steps"]]
    left = [f"{t['mode']}: {t['reason']}" for t in trials if t["reason"]]
    if not steps:
        return f"Mode auto measured nothing: {'; '.join(left)}"
    of = f"medians of {count(min(steps), 'step')}" if len(set(steps)) == 1 else f"{min(steps)} to {max(steps)} steps"
    return f"Mode auto measured ({of} each): {'; '.join((', '.join(measured), *left))}"


def where(header: Record, ranks: str = "") -> str:
    """Return the number of ranks and of nodes, and the first hosts by name."""
    several = f"{ranks} ranks" if ranks and not ranks.isdecimal() else count(header["world"], "rank")
    names = list(dict.fromkeys(str(node["host"]) for node in header["nodes"]))
    hosts = listed(names) if len(names) <= FEW else node_ranges(names)
    return f"{several} on {count(len(header['nodes']), 'node')} ({hosts})"


def data_line(data: Record) -> str:
    """Return what the data set is called, how its rows are split, and what is to be learned."""
    rows = data["rows"]
    several = "label" if data.get("task") == "labels" else "target"
    task = count(data["classes"], "class", "classes") if data["classes"] else count(data["targets"], several)
    return (
        f"Data {data['name']}: {count(rows['train'], 'row')} train, {rows['validation']:,} validate, "
        f"{rows['test']:,} test; {count(data['features'], 'feature')}, {task}"
    )


def metric_name(data: Record) -> str:
    """Return what predictions of a data set are judged by; logs of earlier versions do not say the task."""
    is_regression = data.get("task", "regression") == "regression" and data["classes"] is None
    return "r2" if is_regression else "accuracy"


def loss_name(header: Record) -> str:
    """Return what is minimised, in words."""
    name = header["model"]["loss"]
    return LOSSES.get(name, str(name))
