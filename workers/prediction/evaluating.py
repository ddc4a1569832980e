"""What workers.evaluate does on all ranks: each predicts its part of the rows, and all counts come to rank 0."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.preprocessing import MISSING
from common.data.target import CLASSES, LABELS
from common.errors import EXIT_OK, EXIT_USAGE, DataError, JobError
from common.evaluation.judged import Judged
from common.flat import Array
from common.nn import meaning
from common.nn.model_file import ModelFile
from common.option import from_dict
from common.run_files import LOG_NAME, TRANSFORMER_NAME
from common.wording import count
from ps.comm.agreement import at_root, together
from ps.comm.collectives import allgather, gather
from ps.comm.topology import Topology
from ps.coordinator import earlier_run
from ps.text import evaluation
from ps.text.layout import lines_of, output_width
from ps.text.terminal import say, warn
from workers.launch.process import Context
from workers.prediction.opening import bad_input, blocks_of, open_rows
from workers.prediction.options import EvaluateConfig
from workers.prediction.predicting import alike
from workers.prediction.rows import Asked, Block
from workers.prediction.run_model import find_model, load_model
from workers.prediction.seen import Seen
from workers.preparation.options import names_in
from workers.preparation.transforming import Saved
from workers.training import task as training
from workers.training.final_scores import FinalScores
from workers.training.loop import EVALUATION_ROWS

OTHER = "(other)"
"""Stands for all labels that the model does not know."""


def evaluate(context: Context, topology: Topology, config: EvaluateConfig) -> int:
    """Evaluate and print; return the exit code. Collective; raises JobError."""
    comm, status = context.comm, context.rank_status
    status.enter("reading the model")

    def found() -> str:
        with bad_input():
            return str(find_model(config.run).absolute())

    path = Path(at_root(comm, found))

    def load() -> ModelFile:
        with bad_input():
            return load_model(path, trust=config.trust_model)

    model = together(comm, load)
    if config.data:
        result, notes = _of_file(context, topology, config, model)
    else:
        result, notes = _of_test_rows(context, config, model), []
    at_root(comm, lambda: _print(config, path, result, notes) if result else None)
    return EXIT_OK


def _of_file(
    context: Context, topology: Topology, config: EvaluateConfig, model: ModelFile
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the figures of the rows of a file at rank 0, and what is to be said of them."""
    comm, status = context.comm, context.rank_status
    status.enter("predicting")
    trusted = names_in(config.trust_types)
    asked = Asked(True, config.weight, names_in(config.target), config.encoding, config.header, trusted, config.set)
    rows = open_rows(context, topology, config.data, model, asked)
    judged, left_out, seen = _judge_of(model), np.zeros(2, np.int64), Seen()

    def act() -> None:
        for block in blocks_of(rows, context):
            out = model.outputs(block.x)
            left_out[:] += _add(judged, model, block, out)
            seen.add(block, out)

    with contextlib.closing(rows):
        alike(comm, act)
    collected = gather(comm, judged.plain())
    without, unknown = (sum(some) for some in zip(*allgather(comm, left_out.tolist()), strict=True))
    odd = Seen.of_all(allgather(comm, seen.plain())).odd()
    for other in collected[1:]:
        judged.merge(other)
    if not sum(allgather(comm, judged.n)):
        raise JobError(f"{config.data}: no rows with a target", EXIT_USAGE)
    if not collected:
        return None, []
    notes = [*rows.notes, *(f"{part}." for part in odd)]
    if without:
        notes.append(f"{count(without, 'row')} without a target {'is' if without == 1 else 'are'} left out.")
    if unknown:
        notes.append(
            f"Warning: {count(unknown, 'row')} with a label that the model does not know: counted as wrong, under "
            f"{OTHER}."
        )
    return judged.result() if unknown or model.facts.task != CLASSES else _without_other(judged.result()), notes


def _judge_of(model: ModelFile) -> Judged:
    names, labels = model.target_names, model.labels.tolist()
    if model.facts.task == CLASSES:
        return Judged(names, [*labels, OTHER], model.baseline, n_outputs=len(labels))
    several = model.facts.task == LABELS
    return Judged(names, names if several else [], model.baseline, several=several)


def _add(judged: Judged, model: ModelFile, block: Block, out: Array) -> tuple[int, int]:
    """Count some rows; return how many have no target, and how many a label that the model does not know."""
    assert block.y is not None
    y, task, loss = block.y, model.facts.task, model.model.loss
    there = y != MISSING if task == CLASSES else ~np.isnan(y).any(axis=1)
    y, weight = y[there], None if block.weight is None else block.weight[there]
    out = out[there]
    unknown = 0
    if task == CLASSES:
        unknown = int((y < 0).sum())
        y = np.where(y < 0, len(model.labels), y)
        p = meaning.probabilities(task, loss, out) if meaning.has_probabilities(task, loss) else None
        judged.add(model.places(out), y, p, weight)
    elif task == LABELS:
        judged.add(model.probabilities(out), y, weight=weight)
    else:
        judged.add(model.predicted(out).reshape(len(y), -1), y, weight=weight)
    return int((~there).sum()), unknown


def _without_other(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without the line of other labels, which no row has."""
    matrix = result["matrix"] and [row[:-1] for row in result["matrix"][:-1]]
    return {**result, "by_class": result["by_class"][:-1], "matrix": matrix}


def _of_test_rows(context: Context, config: EvaluateConfig, model: ModelFile) -> dict[str, Any] | None:
    """Return the figures of the run's own test rows at rank 0: the data are read again as they were for training."""
    comm, status = context.comm, context.rank_status

    def known() -> dict[str, Any]:
        with bad_input():
            return _how_it_was_trained(model.path.parent)

    facts = at_root(comm, known)
    trained = replace(from_dict(RunConfig, facts["config"]), trust_types=config.trust_types)
    transformer = model.facts.transformer
    saved = None if transformer is None else Saved(model.path.with_name(TRANSFORMER_NAME), transformer)
    names = ("x_mean", "x_scale", "x_fill", "x_kept", "y_mean", "y_scale")
    given = {name: getattr(model, name) for name in names if len(getattr(model, name)) or name[0] == "x"}
    data = training.load(comm, trained, status, given, saved=saved, asked_to_stop=context.stop.asked)

    def same() -> None:
        with bad_input():
            if facts["sha256"] not in ("", data.sha256):
                raise DataError(
                    f"{trained.data}: is not what the run was trained on (SHA-256 {data.sha256[:12]}... now, "
                    f"{facts['sha256'][:12]}... then); name a file of rows to evaluate"
                )
            if not len(data.test):
                raise DataError(f"run: {config.run} has no test rows; name a file of rows to evaluate")

    together(comm, same)
    training.scale_target(comm, trained, data, model.model, status, given)
    scores = FinalScores(training.Task(trained, data, model.model))
    rows = data.test[comm.rank :: comm.size]
    for start in range(0, len(rows), EVALUATION_ROWS):
        chosen = rows[start : start + EVALUATION_ROWS]
        scores.note(chosen, model.model.predict(model.parameters, data.x[chosen]))
        status.tick()
    return scores.result(comm)


def _how_it_was_trained(folder: Path) -> dict[str, Any]:
    """Return the options of a run, and the SHA-256 of its data. Raises DataError."""
    log = folder / LOG_NAME
    remedy = "name a file of rows to evaluate"
    if not log.is_file():
        raise DataError(f"run: {folder} has no {LOG_NAME}, which says what the test rows are; {remedy}")
    run = earlier_run.read_run(log)
    config = earlier_run.known_config(run.config, run.header)
    if config is None:
        raise DataError(f"run: the log of {folder} holds no configuration that this version knows; {remedy}")
    config = replace(config, resume="", start_from="", output="", inject="")
    return {"config": config.as_dict(), "sha256": str(run.header["data"]["sha256"])}


def _print(config: EvaluateConfig, path: Path, result: dict[str, Any], notes: list[str]) -> None:
    result.pop("points", None)
    if config.json:
        for note in notes:
            warn(note.removeprefix("Warning: "))
        say(json.dumps({"model": str(path), "data": config.data or "the run's test rows", **result}))
        return
    say("\n".join([*notes, *_lines(config, result)]))


def _lines(config: EvaluateConfig, result: dict[str, Any]) -> Iterator[str]:
    for table in evaluation.tables(result, all_classes=config.every):
        yield from lines_of(table, output_width())
    n = len(result.get("by_class") or [])
    if not config.every and n > (evaluation.FEW_IN_MATRIX if result.get("matrix") else evaluation.FEW_CLASSES):
        yield f"Of {n:,} classes not all is shown; --every prints it, and --json has it."
