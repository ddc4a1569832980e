"""What a run leaves beside its log: the model, and the text files that people plot from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.files import quiet, write_atomic
from common.flat import Array
from ps.reader.rewinds import CountedReader
from ps.text import percent

NAMES = ("model.npz", "model_parameters.txt", "sync_times.txt", "contributions.txt")
TEXT_PARAMETERS = 1_000_000
"""More parameters than this are not written as text (25 bytes each); model.npz holds them."""


def save_model(
    folder: Path, params: dict[str, Array], extra: dict[str, Any], pulse: Callable[[], object] = quiet
) -> None:
    """Write ``model.npz`` (parameters by name, and ``extra`` arrays) and, up to 10^6 parameters, as text.

    ``pulse`` is told of each piece that is written.
    """
    write_atomic(folder / "model.npz", lambda file: np.savez(file, allow_pickle=False, **params, **extra), pulse)
    if sum(array.size for array in params.values()) <= TEXT_PARAMETERS:
        blocks = (
            f"{name}:\n" + "".join(f"{value:.18e}\n" for value in array.reshape(-1).tolist())
            for name, array in params.items()
        )
        text = "\n".join(blocks)
        write_atomic(folder / "model_parameters.txt", lambda file: file.write(text.encode()))


def save_tables(folder: Path, log: Path) -> None:
    """Write ``sync_times.txt`` and ``contributions.txt`` from the log, whose numbers they thus are; each epoch once."""
    sync = ["Epoch, Sync Time (s)"]
    contributions = []
    for entry in CountedReader(log).entries():
        if entry.kind != "epoch":
            continue
        record = entry.record()
        sync.append(f"{record['epoch']}, {float(np.mean(record['sync_s'])):.6f}")
        for rank in range(len(record["rows"])):
            parts = (
                f"{name} = {percent(ratios[rank], 'undefined', '%')}" for name, ratios in record["norm_ratio"].items()
            )
            contributions.append(f"Epoch {record['epoch']}, Process {rank}: {', '.join(parts)}")
    for name, lines in (("sync_times.txt", sync), ("contributions.txt", contributions)):
        data = "".join(line + "\n" for line in lines).encode()
        write_atomic(folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]
