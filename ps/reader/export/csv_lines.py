"""A log as CSV: one line per epoch and rank."""

import csv
from collections.abc import Iterator
from typing import Any

from ps.logfile.header import host_names
from ps.logfile.reader import LogReader
from ps.logfile.records import GOING_ON, Record

OF_EPOCH = (
    "epoch",
    "steps",
    "learning_rate",
    "elapsed_s",
    "loss",
    "validation_loss",
    "validation_metric",
    "diversity_all",
    "effective_ranks",
    "noise_scale",
    "bus_bytes_per_s",
)
EFFICIENCY = ("load_balance", "communication", "parallel")
BY_RANK = (
    "rows",
    "loop_s",
    "input_s",
    "compute_s",
    "reduce_s",
    "wait_s",
    "transfer_s",
    "sync_s",
    "sampling_s",
    "evaluation_s",
    "checkpoint_s",
    "sent_bytes",
    "share_all",
    "norm_ratio_all",
    "cosine_all",
    "leave_one_out_all",
)
BY_PARAMETER = ("gradient_mean", "norm_ratio", "share", "cosine", "leave_one_out")


def csv_lines(reader: LogReader) -> Iterator[str]:
    """Yield a line of names, then the lines of each epoch: what is the same for all ranks, then the rank's own.

    What is undefined is left empty. The hosts are those of the job that the epoch is of. Raises LogError.
    """
    line = _Line()
    names: list[str] = []
    hosts: dict[int, str] = {}
    for record in reader.records():
        if record["kind"] == "header":
            names = list(record["model"]["parameters"])
            hosts = host_names(record)
            efficiency = [f"efficiency_{key}" for key in EFFICIENCY]
            columns = [f"{key}_{name}" for name in names for key in BY_PARAMETER]
            yield line.of([*OF_EPOCH, *efficiency, "rank", "host", "rank_loss", *BY_RANK, *columns])
        elif record["kind"] == "event" and record["what"] in GOING_ON and "nodes" in record:
            hosts = host_names(record)
        elif record["kind"] == "epoch":
            shared = [record[key] for key in OF_EPOCH] + [record["efficiency"][key] for key in EFFICIENCY]
            for rank in range(len(record["rows"])):
                yield line.of([*shared, rank, hosts.get(rank, ""), *_own(record, rank, names)])


def _own(record: Record, rank: int, names: list[str]) -> list[Any]:
    together = [record["loss_by_rank"][rank], *(record[key][rank] if key in record else None for key in BY_RANK)]
    return together + [record[key][name][rank] for name in names for key in BY_PARAMETER]


class _Line:
    """A csv writer that returns its lines."""

    def __init__(self) -> None:
        self.text = ""
        self.writer = csv.writer(self, lineterminator="\n")

    def write(self, text: str) -> None:
        self.text = text

    def of(self, values: list[Any]) -> str:
        self.writer.writerow(values)
        return self.text
