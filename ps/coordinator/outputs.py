"""What a run leaves next to its log: the model, and the text files that people plot from."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import commands
from common.errors import LogError, RankwiseError
from common.files import do_nothing, told, write_atomic
from common.flat import Array, Flat, fingerprint
from common.run_files import LOG_NAME, MODEL_NAME, checkpoints_in
from common.wording import count
from ps.coordinator.coordinator import Coordinator, contributions
from ps.logfile.deduplicated import DeduplicatedReader
from ps.text import evaluation
from ps.text.contributions import NORM_RATIO
from ps.text.formatting import named_metric, number
from ps.text.layout import lines_of, output_width
from ps.text.terminal import say, warn

TEXT_PARAMETERS = 1_000_000
"""More parameters than this are not written as text (25 bytes each); model.npz holds them."""


def save_model(
    folder: Path, params: dict[str, Array], extra: dict[str, Any], pulse: Callable[[], object] = do_nothing
) -> None:
    """Write ``model.npz`` (parameters by name, and ``extra`` arrays) and, up to 10^6 parameters, as text.

    ``pulse`` is called after each write.
    """
    write_atomic(folder / MODEL_NAME, lambda file: np.savez(file, allow_pickle=False, **params, **extra), pulse)
    if sum(array.size for array in params.values()) <= TEXT_PARAMETERS:
        blocks = (
            f"{name}:\n" + "".join(f"{value:.18e}\n" for value in array.reshape(-1).tolist())
            for name, array in params.items()
        )
        _write_text(folder / "model_parameters.txt", "\n".join(blocks))


def save_tables(folder: Path, log: Path) -> None:
    """Write ``sync_times.txt`` and ``contributions.txt`` from the log, whose numbers they thus are; each epoch once."""
    try:
        tables = _tables(DeduplicatedReader(log))
    except LogError as error:
        if not error.damaged:
            raise
        warn(f"{error}; the text files hold what is whole of it")
        tables = _tables(DeduplicatedReader(log, salvage=True))
    for name, lines in tables.items():
        _write_text(folder / name, "".join(line + "\n" for line in lines))


def _tables(reader: DeduplicatedReader) -> dict[str, list[str]]:
    """Return the lines of the text files, by their names. Raises LogError."""
    sync = ["Epoch, Sync Time (s)"]
    shares = [f"# {NORM_RATIO}"]
    for record in reader.records():
        if record["kind"] != "epoch":
            continue
        sync.append(f"{record['epoch']}, {float(np.mean(record['sync_s'])):.6f}")
        head, ranks = f"Epoch {record['epoch']}, Process", range(len(record["rows"]))
        shares += [f"{head} {rank}: {contributions(record, rank)}" for rank in ranks]
    return {"sync_times.txt": sync, "contributions.txt": shares}


def _write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))


def save(
    coordinator: Coordinator,
    flat: Flat,
    of_data: dict[str, Array],
    status: str,
    unsaved: str,
    facts: dict[str, Any],
    tick: Callable[[], object],
) -> None:
    """Write the model, the text files and the log's end. Raises RankwiseError if something is missing.

    ``of_data``: what else predicting needs (``model_facts.extras``). ``unsaved``: why the last checkpoint could not be
    written, if so. ``facts``: for the end record. ``tick`` is called while the model is written.
    """
    folder, queue = coordinator.folder, coordinator.queue
    missing = [
        *_attempt("the model", lambda: save_model(folder, flat.params, of_data, tick)),
        *_attempt("a text file", lambda: save_tables(folder, coordinator.log.path)),
    ]
    if unsaved and status == "stopped":
        missing.append(f"the checkpoint could not be written ({unsaved})")
    queue.flush()
    missing += filter(None, [queue.missing()])
    if missing:
        raise RankwiseError(f"output: {'; '.join(missing)}; make room in {folder} and resume with --resume {folder}")
    coordinator.finish(status, fingerprint=fingerprint(flat.param_vector), **facts)
    if unsaved:
        warn(f"the last checkpoint could not be written ({unsaved})")
    world = coordinator.facts["world"]
    tables = coordinator.sync_table.lines() if world > 1 else []
    say("\n".join((*tables, *_result(coordinator, status, facts))))


def _result(coordinator: Coordinator, status: str, facts: dict[str, Any]) -> Iterator[str]:
    """Yield what the run came to, where it is saved, and the commands that go on from here."""
    folder, rows, best = coordinator.folder, coordinator.facts["data"]["rows"], coordinator.best_epoch
    validated = coordinator.last.get("validation_loss") is not None
    if validated and best and best != coordinator.last["epoch"]:
        value = coordinator.best_loss
        figure = (
            f"Highest validation R2: {number(1 - value)}"
            if coordinator.metric.mixed
            else (f"Lowest validation loss: {number(value)}")
        )
        yield f"{figure} after epoch {best}."
    if facts.get("test"):
        for table in evaluation.tables(facts["test"]):
            yield from lines_of(table, output_width())
    if facts.get("test_loss") is not None:
        kept = f", with the parameters of epoch {best}" if best and coordinator.config.patience else ""
        tested = named_metric(coordinator.metric.name, facts["test_metric"])
        yield f"Test: loss {number(facts['test_loss'])}, {tested} ({count(rows['test'], 'row')}{kept})"
    yield f"Saved in {folder}: {LOG_NAME}, model.npz, text files."
    yield f"Read: {commands.reading(folder)}"
    if checkpoints_in(folder):
        more = () if status == "stopped" else ("--epochs", 2 * coordinator.config.epochs)
        what = "Train on" if more else "Continue"
        yield f"{what}: {commands.training(coordinator.facts['world'], '--resume', folder, *more)}"


def _attempt(what: str, act: Callable[[], object]) -> list[str]:
    """Save something; return what is to be said if that fails."""
    try:
        act()
    except OSError as error:
        return [f"{what} could not be written ({told(error)})"]
    return []
