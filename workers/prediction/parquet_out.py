"""Writes predictions as Parquet: a child does, which has polars."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.data.target import CLASSES
from common.files import COPY_BYTES, write_atomic
from workers.prediction.rows_out import Output
from workers.preparation.child_process import Child

CHILD = "workers.prediction.table_child"


def write_parquet(output: Output, streams: Iterator[Iterator[bytes]], n: int, threads: int) -> None:
    """Write a file of n rows from the bytes of each array. Raises OSError and DataError."""
    model = output.model
    is_class = model.facts.task == CLASSES
    first = (1, "int64") if is_class else (model.n_targets, "int64" if not len(model.y_mean) else "float64")
    layout = [first, (len(model.labels) or model.n_targets, "float64")][: output.n_streams]
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Child(threads, module=CHILD)) as child:
        arrays = []
        for number, (stream, about) in enumerate(zip(streams, layout, strict=True)):
            path = Path(folder) / f"array-{number}"
            with path.open("wb") as file:
                for data in stream:
                    file.write(data)
            arrays.append([str(path), *about])
        labels = model.labels.tolist() if is_class else []
        made = child.ask("to_parquet", arrays=arrays, names=output.columns(), labels=labels, rows=n, folder=folder)
        with open(made, "rb") as whole:
            write_atomic(output.path, lambda file: shutil.copyfileobj(whole, file, COPY_BYTES))
