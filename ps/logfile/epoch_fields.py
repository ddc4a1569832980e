"""Every figure of an epoch's record, once: name, type, unit, meaning, how it is gathered, its CSV column.

The record, the row that ranks hand in (``ps/metrics/rank_row.py``), the schema, the CSV export and the table in
docs/log-format.md follow from this list; ``python -m ps.logfile.epoch_fields`` prints the table.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ps.logfile.validation import (
    NUMBER,
    TEXT,
    WHOLE,
    FieldSpec,
    by_parameter,
    by_rank,
    list_of,
    nullable,
    optional,
    table,
)

EPOCH = FieldSpec("the number of an epoch", frozenset({int}), low=0, high=2**53)


@dataclass(frozen=True, slots=True)
class EpochField:
    """One figure.

    ``unit``: empty for plain numbers. ``gathered``: each rank hands it in, and the record lists it by rank.
    ``column``: its title in the CSV export, with the key or the parameter appended where it is a map; empty: none.
    ``derive(rows)``: makes it of the rows of all ranks, a structured array (ranks,) of what is gathered; without it,
    and unless gathered, the coordinator supplies it. ``loose``: only modes that do not do the same as ``allreduce``
    give it (``Synchronizer.epoch_figures``); the record has it if any rank did, nil for the others.
    """

    name: str
    spec: FieldSpec
    unit: str
    meaning: str
    gathered: bool = False
    column: str = ""
    derive: Callable[[Any], Any] | None = None
    loose: bool = False


def _one(name: str, spec: FieldSpec, unit: str, meaning: str, *, csv: bool = False) -> EpochField:
    return EpochField(name, spec, unit, meaning, column=name if csv else "")


def _seconds(name: str, meaning: str, *, csv: bool = True) -> EpochField:
    """Return a figure in seconds that each rank measures."""
    return EpochField(name, by_rank(NUMBER), "s", meaning, gathered=True, column=name if csv else "")


def _by_rank(name: str, meaning: str) -> EpochField:
    return EpochField(name, by_rank(_NUMBER), "", meaning, column=name)


def _interval(name: str, meaning: str) -> EpochField:
    return EpochField(name, optional(by_rank(_NUMBER)), "", meaning, column=name)


def _by_parameter(name: str, meaning: str) -> EpochField:
    return EpochField(name, by_parameter(by_rank(_NUMBER)), "", meaning, column=name)


def _loose(name: str, of: FieldSpec, unit: str, meaning: str) -> EpochField:
    """Return a figure of the modes that do not keep all ranks in step."""
    return EpochField(name, optional(by_rank(nullable(of))), unit, meaning, gathered=True, column=name, loose=True)


_NUMBER = nullable(NUMBER)
_EFFICIENCY = table(load_balance=_NUMBER, communication=_NUMBER, parallel=_NUMBER)
_BEFORE = optional(nullable(table(steps=WHOLE, rows=WHOLE, loss_sum=NUMBER)))

EPOCH_FIELDS: list[EpochField] = [
    _one("epoch", EPOCH, "", "its number, from 1", csv=True),
    _one("steps", WHOLE, "", "steps that this job did of it", csv=True),
    _one("before", _BEFORE, "", "what earlier jobs did of it: `steps`, and `rows` and `loss_sum` of all ranks; nil for "
        "most epochs. `loss` covers it; lists by rank are of this job only"),
    _one("skipped", optional(WHOLE), "", "steps left out because a gradient or loss was not finite, whose rows count "
        "nowhere"),
    _one("sampled_steps", list_of(WHOLE), "", "the steps (from 1) that gradient means, norm ratios and shares were "
        "measured on: as many as 2 % of the time allows, but at least 8 (all, if there are fewer) and at most 1,024"),
    _one("samples", optional(WHOLE), "", "how many steps were sampled", csv=True),
    _one("learning_rate", NUMBER, "", "of the last step", csv=True),
    _one("elapsed_s", NUMBER, "s", "since training was set up", csv=True),
    _one("loss", NUMBER, "", "mean training loss over the rows of **all** ranks, each row's taken before its step's "
        "update; losses of a regression are mean squared errors in the targets' own units", csv=True),
    _one("validation_loss", _NUMBER, "", "over all validation rows after the epoch; nil without such rows", csv=True),
    _one("validation_metric", _NUMBER, "", "the same: accuracy (0 to 1), or R2, averaged over the targets that vary",
        csv=True),
    _one("diversity_all", _NUMBER, "", "`diversity` over all parameters together", csv=True),
    _one("effective_ranks", _NUMBER, "ranks", "how many independent ranks the gradients are as diverse as: P "
        "min(`diversity_all`, 1) of the P ranks with rows. Nil where they cancel each other by more than "
        "chance, which leaves no such number: `diversity_all` is above 1, or ranks point against the others "
        "([verdicts.md](verdicts.md))", csv=True),
    _one("effective_ranks_low", optional(_NUMBER), "ranks", "the ends of its 95 % interval, by the scatter of the "
        "sampled steps; nil with `effective_ranks`, and with one sample", csv=True),
    _one("effective_ranks_high", optional(_NUMBER), "ranks", "see `effective_ranks_low`", csv=True),
    _one("noise_scale", _NUMBER, "rows", "B_simple, the ratio of `noise_trace` and `noise_gradient_sq` over all "
        "parameters (McCandlish et al. 2018, arXiv 1812.06162), each averaged over the epochs first (0.8 of the "
        "average is kept at an epoch): batches above about so many rows gain little; nil while it cannot be "
        "estimated. Assumes that ranks' rows are random samples", csv=True),
    _one("bus_bytes_per_s", _NUMBER, "bytes/s", "2 (N-1)/N times the gradient's bytes over the mean time of a sum "
        "(`transfer_s` + `reduce_s` of a step, or of one of `pushes`), as nccl-tests counts it; nil with one "
        "rank", csv=True),
    _one("efficiency", _EFFICIENCY, "", "POP's (co-design.pop-coe.eu/metrics), of an epoch's steps. Useful work of a "
        "rank is `compute_s` + `input_s` - `reduce_s`; its run time `compute_s` + `input_s` + `sync_s`, without "
        "measuring contributions and checkpoints, which are no part of training. `load_balance` = mean / max of useful "
        "work over the ranks, `communication` = the largest useful work / the longest run time, `parallel` = their "
        "product; below 0.8 is worth a look", csv=True),
    _one("gradient_norm", optional(_NUMBER), "", r"\|g\|, the length of the mean gradient of all rows of a step, over "
        r"all parameters and before clipping, of a regression with its targets scaled; the root of the "
        r"mean square over the sampled steps", csv=True),
    EpochField("loss_by_rank", by_rank(_NUMBER), "", "mean training loss over each rank's own rows; nil without rows",
        column="rank_loss"),
    EpochField("rows", by_rank(WHOLE), "rows", "rows trained on", gathered=True, column="rows"),
    _seconds("loop_s", "the whole training loop of the epoch, with measuring and checkpoints, without its end"),
    _seconds("input_s", "copying rows into the memory that steps read"),
    _seconds("compute_s", "forward, backward and update; in mode `send-recv` also what is sent and added during "
        "backward, in `shared` and `factors` summing this rank's slices"),
    _seconds("reduce_s", "the part of `compute_s` that belongs to the exchange: summing and updating this rank's "
        "slices (modes `shared` and `factors`; forming gradients from factors is computing), or sending and adding "
        "during backward (`send-recv`); else 0. Verdicts, `efficiency` and `whatif` all count it so"),
    _seconds("wait_s", "from its arrival at a sum to the last rank's arrival, summed over the steps"),
    _seconds("transfer_s", "from the last rank's arrival to the sum's end here"),
    _seconds("sync_s", "wait + transfer"),
    _seconds("sampling_s", "spent on measuring contributions; in neither compute nor sync"),
    EpochField("sample_cost_s", optional(by_rank(NUMBER)), "s", "by how much sampling lengthened a step: what the next "
        "epochs' number of samples follows from", gathered=True),
    _seconds("evaluation_s", "evaluating its validation rows"),
    EpochField("checkpoint_s", optional(by_rank(NUMBER)), "s", "taking copies for checkpoints and waiting for those "
        "that are still being written; since the last epoch's record", gathered=True, column="checkpoint_s"),
    EpochField("sent_bytes", by_rank(WHOLE), "bytes", "payload of gradients that it hands to MPI, or writes in shared "
        "memory for others; on several nodes what it sends to other nodes, as the interfaces count it (where the MPI "
        "library chooses the algorithm: 2 (K-1)/K of the packet over K nodes, in equal parts for the ranks of a node); "
        "a sampled step whose ranks had unequal rows takes two sums, the second to measure contributions",
        gathered=True, column="sent_bytes"),
    _by_rank("share_all", "`share` over all parameters together"),
    _interval("share_low", "the ends of the 95 % interval of `share_all` over the epoch's steps, by the scatter of the "
        "sampled ones (ratio estimator, Cochran 1977, section 6.4; Student's t); nil with one sample"),
    _interval("share_high", "see `share_low`"),
    _interval("chance_low", "the ends of the band around its fair share w_i in which 95 of 100 shares lie if all "
        "ranks' rows are random samples of the same data: the scatter when the ranks' labels are dealt anew in each "
        "sampled step (docs/verdicts.md has the formula); nil where one rank has rows"),
    _interval("chance_high", "see `chance_low`"),
    _by_rank("norm_ratio_all", "`norm_ratio` over all parameters together"),
    _by_rank("cosine_all", "`cosine` over all parameters together"),
    _by_rank("leave_one_out_all", "`leave_one_out` over all parameters together"),
    _seconds("sync_median_s", "`sync_s`, its median over the epoch's steps", csv=False),
    _seconds("wait_median_s", "`wait_s`, its median over the epoch's steps", csv=False),
    _seconds("transfer_median_s", "`transfer_s`, its median over the epoch's steps", csv=False),
    EpochField("preemptions", optional(by_rank(WHOLE)), "", "how often the system gave its core to another process "
        "during the training loop. Linux counts a rank that gives up its core while it waits as well", gathered=True),
    EpochField("preempted_s", optional(by_rank(NUMBER)), "s", "how long it stood in a core's queue during the training "
        "loop, ready to run while another process ran", gathered=True),
    _loose("pushes", WHOLE, "", "gradients that it handed to the server, or differences at averages"),
    _loose("staleness_mean", NUMBER, "updates", "the parameters' age, averaged over its pushes: how many updates lay "
        "between its taking them and its gradient's part in an update"),
    _loose("staleness_most", NUMBER, "updates", "the largest age of its pushes"),
    _loose("clock_gap", NUMBER, "steps", "the most that it was ahead of the slowest rank"),
    _loose("late", WHOLE, "", "gradients of it that were added to a later update than the one they were computed for"),
    _loose("dropped", WHOLE, "", "gradients of it that are in no update"),
    _loose("drift", NUMBER, "", r"\|x_i - w\| / \|w\|, how far its parameters were from the common ones before an "
        "average or at a push, averaged over the epoch"),
    _loose("update_share", NUMBER, "", "its share of the updates of the epoch; adds up to 1 over the ranks"),
    EpochField("fingerprint", by_rank(TEXT), "", "a 48-bit checksum of its parameters after the epoch (weighted sums "
        "of their 32-bit words, `common/checksum.py`); it finds faults, not forgers", gathered=True),
    _by_parameter("gradient_mean", "mean entry of the rank's mean gradient, averaged over the sampled steps"),
    _by_parameter("norm_ratio", r"\|g_i\| / \|sum_j g_j\|, g_i the mean gradient of rank i's rows; over several "
        r"sampled steps, the root of the ratio of summed squares"),
    _by_parameter("share", "w_i <g_i, g> / <g, g>, w_i = n_i / n, g = sum w_i g_i; adds up to 1 over the ranks; "
        "below 0 pulls against the update; over several sampled steps, the ratio of sums"),
    _by_parameter("cosine", r"<g_i, g> / (\|g_i\| \|g\|); over several sampled steps, sums of products over the "
        r"root of the sums of squares"),
    _by_parameter("leave_one_out", r"\|g - g_-i\| / \|g\|, how far the gradient would move without rank i, g_-i "
        r"being the mean gradient of all other rows; = w_i / (1 - w_i) \|g_i - g\| / \|g\|; nil for the only rank with "
        r"rows"),
    _one("diversity", by_parameter(_NUMBER), "", r"sum_i \|g_i\|^2 / \|sum_i g_i\|^2 (Yin et al. 2018, arXiv "
        r"1706.05699, with ranks in place of rows): 1/N for ranks that say the same, 1 for ranks that have nothing in "
        r"common, more where they cancel each other"),
    _one("noise_trace", by_parameter(_NUMBER), "", r"estimate of the trace of the covariance of single rows' "
        r"gradients, n / (P-1) (sum_i w_i \|g_i\|^2 - \|g\|^2) over the P ranks with rows, averaged over the sampled "
        r"steps; unbiased for uneven shares too"),
    _one("noise_gradient_sq", by_parameter(_NUMBER), "", r"\|g\|^2 - `noise_trace` / n, an unbiased estimate of the "
        r"true gradient's square; may be below 0"),
]  # fmt: skip


def epoch_spec() -> FieldSpec:
    """Return what an ``epoch`` record may hold besides ``kind``, ``seq`` and ``t``."""
    return table(**{field.name: field.spec for field in EPOCH_FIELDS})


def markdown_table() -> str:
    """Return the table of docs/log-format.md."""
    kinds = {"rank": "by rank", "parameter": "by parameter"}
    lines = ["| key | unit | meaning |", "| --- | --- | --- |"]
    for field in EPOCH_FIELDS:
        per = [kinds[spec.per] for spec in (field.spec, field.spec.of) if spec and spec.per]
        meaning = f"{', '.join(per)}: {field.meaning}" if per else field.meaning
        lines.append(f"| `{field.name}` | {field.unit} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
