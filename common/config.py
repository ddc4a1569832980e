"""The options of a run, each in one place."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from common import memory
from common.errors import ConfigError
from common.option import (
    CHECKPOINTS,
    DATA,
    FAULTS,
    INTERNAL,
    MODEL,
    OUTPUT,
    OWN_MODEL,
    SYNC,
    TRAINING,
    USUAL,
    affects,
    changeable,
    check_options,
    option,
    options_of,
    per_job,
    shown,
    whole_or,
)

MODELS = ("linear", "logistic", "softmax", "mlp")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu")
LOSSES = ("auto", "mse", "cross-entropy")
DTYPES = ("float32", "float64")
SUM_ALGORITHMS = (
    "auto",
    *(nodes + name for nodes in ("", "node-all-", "node-one-") for name in ("library", "ring", "rabenseifner")),
)
WIRES = ("float32", "bf16", "int8", "powersgd", "topk")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")
COMPENSATIONS = ("off", "constant", "adaptive")
DELAY_RATES = ("constant", "inverse", "root")
SCHEDULES = ("constant", "step", "cosine", "warmup", "warmup-step", "warmup-cosine")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All options of a run; checked when made.

    Raises ConfigError, naming the option, what was got and what is allowed.
    """

    mode: str = affects("allreduce", "how gradients are collected: {modes}", group=USUAL)
    model: str = option("mlp", "what is trained", choices=(*MODELS, OWN_MODEL), group=USUAL)
    hidden: tuple[int, ...] = option(
        (256,), "sizes of the hidden layers of an mlp: 128,64 or 128 64", low=1, high=10**6, longest=1000, group=USUAL
    )
    activation: str = option("relu", "activation of the hidden layers", choices=ACTIVATIONS, group=MODEL)
    loss: str = option(
        "auto",
        "auto: by the model and, where it takes both, the target: few different whole numbers are classes",
        choices=LOSSES,
        group=MODEL,
    )
    check_model: bool | None = changeable(
        None,
        "try the model on a few rows first, and compare its gradient with numeric derivatives (default: your own)",
        group=MODEL,
    )
    data: str = changeable("digits", "{sources}", group=USUAL)
    target: str = changeable(
        "", "the column of a .csv file to predict: its name, or its number from 1; -1 is the last", group=USUAL
    )
    header: str = changeable(
        "auto",
        "whether a .csv file begins with column names; auto: not if all are numbers",
        choices=("auto", "yes", "no"),
        before="yes",
        group=DATA,
    )
    index_column: str = changeable(
        "auto",
        "columns of a .csv file that number its rows; auto: leave out those without a name; drop: all of them",
        choices=("auto", "keep", "drop"),
        before="keep",
        group=DATA,
    )
    features: str = changeable(
        "", "columns of a table to learn from, names with commas between (default: all but the target)", group=DATA
    )
    drop: str = changeable("", "columns of a table to leave out", group=DATA)
    categorical: str = changeable("", "columns of a table whose numbers are names of categories", group=DATA)
    missing: str = changeable(
        "", "texts that stand for a missing cell of a table, beside NA, NaN, null, ? and the like", group=DATA
    )
    encoding: str = changeable("utf-8", "of the text of a table: utf-8, utf-16, latin-1, cp1252, ...", group=DATA)
    prepare: str = option(
        "",
        "make features of a table with your own transformer of scikit-learn: package.module:name (extra [skops])",
        group=DATA,
    )
    standardize: bool = option(True, "scale features to mean 0 and deviation 1 of the training rows", group=DATA)
    standardize_target: bool = option(
        True,
        "the same for the target of a regression, whose loss is still given in its own unit",
        before=False,
        group=DATA,
    )
    test_fraction: float = option(
        0.2, "rows kept for the final test (not used when a test set is given)", high=0.9, group=DATA
    )
    validation_fraction: float = option(
        0.1, "rows kept for the loss after each epoch (not used when a validation set is given)", high=0.9, group=DATA
    )
    test_data: str = changeable("", "a file of its own with the rows of the final test", group=DATA)
    validation_data: str = changeable("", "a file of its own with the rows for the loss after each epoch", group=DATA)
    split_seed: int = option(
        0,
        "of the split, apart from --seed, so that several seeds compare on the same test rows",
        high=2**32 - 1,
        group=DATA,
    )
    group: str = option(
        "",
        "split by a column (of an .npz: an array): all rows with the same value are in one split",
        group=DATA,
    )
    time: str = option(
        "",
        "split by a column (of an .npz: an array) of times: the latest rows test, those before them validate",
        group=DATA,
    )
    weight: str = option(
        "",
        "a column (of an .npz: an array) of weights: a row of weight k counts as k rows (default: sample_weight of an "
        ".npz, if there is one)",
        group=DATA,
    )
    class_weight: str = option(
        "none",
        "balanced: training rows of rare classes count more, so that all classes count alike",
        choices=("none", "balanced"),
        group=DATA,
    )
    rows: str = option(
        "shuffle",
        "shuffle: dealt anew each epoch; shard: a step takes rows from each of 64 parts of the file, a rank reads some",
        choices=("shuffle", "shard"),
        group=DATA,
    )
    shards: str = option(
        "fixed",
        "fixed: 64, whatever the ranks; by-rank: one for each rank, as earlier versions had",
        choices=("fixed", "by-rank"),
        before="by-rank",
        group=INTERNAL,
    )
    epochs: int = affects(30, "passes over the training rows", low=1, group=USUAL)
    batch_size: int = affects(64, "rows of all ranks together in a step; 0: all rows", group=USUAL)
    optimizer: str = option("adam", "update rule", choices=OPTIMIZERS, group=USUAL)
    learning_rate: float = affects(0.002, "step size before the schedule", high=1e30, excluded="low", group=USUAL)
    momentum: float = affects(0.9, "for momentum and nesterov", high=1, excluded="high", group=TRAINING)
    schedule: str = affects("constant", "learning rate over time", choices=SCHEDULES, group=TRAINING)
    warmup_epochs: float = affects(1.0, "length of the linear warm-up of the warmup schedules", group=TRAINING)
    step_epochs: int = affects(10, "the step schedules multiply the rate every so many epochs", low=1, group=TRAINING)
    step_factor: float = affects(0.1, "what they multiply it with", high=1, excluded="low", group=TRAINING)
    weight_decay: float = affects(0.0, "L2 penalty on all parameters (decoupled in adamw)", high=1e6, group=TRAINING)
    clip: float = affects(0.0, "largest norm of the global gradient; 0: no clipping", high=1e30, group=TRAINING)
    patience: int = affects(0, "stop after so many epochs without a lower validation loss; 0: never", group=TRAINING)
    init: str = option(
        "broadcast",
        "broadcast: every rank starts as rank 0; per-rank: each on its own",
        choices=("broadcast", "per-rank"),
        group=SYNC,
    )
    sum_algorithm: str = affects(
        "auto",
        "how ranks sum across nodes, but for mode send-recv; auto: the fastest way, measured at the start",
        choices=SUM_ALGORITHMS,
        group=SYNC,
    )
    sync_every: int = affects(
        16, "steps that a rank takes by itself before parameters are averaged", low=1, modes=("local",), group=SYNC
    )
    local_group: str = affects(
        "rank",
        "who takes steps together between averages. rank: each by itself; node: the ranks of a node, which sum their "
        "gradients in every step",
        choices=("rank", "node"),
        modes=("local",),
        group=SYNC,
    )
    outer_momentum: float = affects(
        0.0,
        "of what averages move parameters by, which then takes Nesterov's form; 0: parameters are the average",
        high=1,
        excluded="high",
        modes=("local",),
        group=SYNC,
    )
    outer_rate: float = affects(
        1.0,
        "how much of the way to the average parameters go",
        high=1e30,
        excluded="low",
        modes=("local",),
        group=SYNC,
    )
    local_momentum: str = affects(
        "auto",
        "what becomes of a rank's momentum, or Adam's moments, at an average; auto: reset, but Adam's are kept",
        choices=("auto", "reset", "average", "keep"),
        modes=("local",),
        group=SYNC,
    )
    wait_for: int = affects(
        0,
        "k-of-n: so many gradients make an update; 0: all but one rank's",
        high=10**6,
        modes=("k-of-n",),
        group=SYNC,
    )
    staleness: str = affects(
        "3",
        "async: the most gradients that a rank may be ahead of the slowest; 0: none, as in synchronous modes; inf: any",
        modes=("async",),
        group=SYNC,
    )
    servers: str = affects(
        "one",
        "async: one: rank 0 serves all parameters; all: each rank serves a slice of them, so that none sends more than "
        "another",
        choices=("one", "all"),
        modes=("async",),
        group=SYNC,
    )
    order: str = affects(
        "arrival",
        "async: apply gradients as they arrive; clock: in the order of steps and ranks, repeatable to the bit, each "
        "rank at most one gradient ahead",
        choices=("arrival", "clock"),
        modes=("async",),
        group=SYNC,
    )
    max_delay: str = affects(
        "off",
        "async: leave out gradients that are so many updates old, or more, and deal their rows again; auto: by the "
        "noise of gradients",
        modes=("async",),
        group=SYNC,
    )
    delay_rate: str = affects(
        "constant",
        "async: inverse, root: take the rate of an update by a gradient that is d updates old 1/d or 1/sqrt(1+d) times",
        choices=DELAY_RATES,
        modes=("async",),
        group=SYNC,
    )
    delay_compensation: str = option(
        "off",
        "async: correct old gradients for how far the parameters have moved since (DC-ASGD), by a constant or an "
        "adaptive factor",
        choices=COMPENSATIONS,
        modes=("async",),
        group=SYNC,
    )
    simulate_delay: int = option(
        0,
        "async in one process: compute gradients with parameters up to so many updates old, drawn from the seed, for "
        "study; 0: with those of now",
        high=1000,
        modes=("async",),
        group=SYNC,
    )
    wire: str = affects(
        "float32",
        "how the numbers of a sum travel in modes ring and local: float32: as they are; bf16: 2 bytes of each; int8: "
        "about 1; powersgd: matrices as two narrow factors; topk: the largest alone; what these two leave out is added "
        "to the next step's. k-of-n, async: how gradients travel to rank 0, float32 or bf16",
        choices=WIRES,
        group=SYNC,
    )
    wire_rank: int = affects(
        4, "with --wire powersgd: columns of the two factors that a matrix travels as", low=1, high=1024, group=SYNC
    )
    wire_keep: float = affects(
        0.01, "with --wire topk: the share of the numbers that are sent", high=1, excluded="low", group=SYNC
    )
    measure_sums: bool = per_job(
        False,
        "with --resume: measure again how ranks sum, as --sum-algorithm auto on the command line asks for",
        group=INTERNAL,
    )
    cache: str = changeable(
        "auto",
        "where a table is kept once it is prepared: auto: in a folder beside it; a folder; off: not kept; numpy: not "
        "prepared, but a .csv of numbers is read into memory by every rank",
        before="numpy",
        group=DATA,
    )
    max_memory: str = changeable(
        "",
        "what the arrays of a process may take, 500M or 4G: more is refused before any is taken (default: the memory "
        "of the node by its ranks, and half of that for the arrays of one file)",
        group=DATA,
    )
    seed: int = option(0, "of initial weights and order", high=2**32 - 1, group=TRAINING)
    dtype: str = option("float32", "of parameters, gradients and data", choices=DTYPES, group=MODEL)
    checkpoint_every: int = changeable(0, "save the state of training after so many epochs; 0: not", group=CHECKPOINTS)
    checkpoint_minutes: float = changeable(10.0, "and after so many minutes; 0: not", high=1e6, group=CHECKPOINTS)
    keep: int = changeable(2, "how many checkpoints are kept", low=1, high=1000, group=CHECKPOINTS)
    nonfinite: str = changeable(
        "stop", "a loss or gradient that is not finite: stop, or skip the step", choices=("stop", "skip"), group=FAULTS
    )
    nonfinite_most: int = changeable(10, "stop after so many skipped steps in a row", low=1, group=FAULTS)
    balance: str = affects(
        "off",
        "speed: ranks that compute faster take more of a step's rows, measured anew every few epochs; off: all as many",
        choices=("off", "speed"),
        group=SYNC,
    )
    heal: bool = changeable(
        False, "repair ranks whose parameters differ from those of most, instead of stopping", group=SYNC
    )
    elastic: bool = per_job(
        False, "continue without ranks that die (Open MPI started with mpirun --with-ft ulfm)", group=FAULTS
    )
    resume: str = per_job(
        "",
        "continue a run: its folder, its name under runs/, or auto for the newest that can be continued",
        command_line_only=True,
        group=CHECKPOINTS,
    )
    trust_model: bool = per_job(
        False,
        "with --resume or --from: import your own model class though its file is not the one that the log names",
        command_line_only=True,
        group=CHECKPOINTS,
    )
    trust_types: str = per_job(
        "",
        "with --resume: types in the transformer of --prepare that skops does not know, or their packages",
        command_line_only=True,
        group=CHECKPOINTS,
    )
    start_from: str = option(
        "",
        "start a new run from the parameters of another: its folder, its name under runs/, a checkpoint or a model.npz",
        flags=("--from",),
        command_line_only=True,
        group=CHECKPOINTS,
    )
    carry: bool = changeable(False, "with --from a checkpoint: go on with its optimizer as well", group=INTERNAL)
    stall_seconds: float = changeable(
        60.0, "name the rank the others have waited for so long; 0: never", high=1e6, group=FAULTS
    )
    abort_stall: float = changeable(
        300.0, "and end the job after so many seconds without progress; 0: never", high=1e6, group=FAULTS
    )
    output: str = per_job("", "the run folder (default runs/TIME-MODE-RANKS)", flags=("--output", "-o"), group=USUAL)
    ranks_per_node: int = affects(0, "pretend that so many ranks share a node (for tests); 0: as it is", group=INTERNAL)
    inject: str = per_job(
        "",
        "faults on purpose, for demonstrations and tests, with ; between them: slow:rank=2,x=3 or "
        "stall:rank=2,every=50,seconds=0.2 or skew (makes rows shard; skew:alpha=0.3: Dirichlet shares of labels) or "
        "nan, diverge, hang or die:rank=1,step=50; without a rank the last one, without a step the first; not from a "
        "file or the environment",
        command_line_only=True,
        group=FAULTS,
    )
    verbose: bool = changeable(
        False, "print gradient, contribution and sync time of every process and epoch", group=OUTPUT
    )
    debug: bool = changeable(False, "print a traceback with every error", group=OUTPUT)

    def __post_init__(self) -> None:
        check_options(self)
        if self.max_memory:
            memory.size(self.max_memory)
        whole_or("staleness", self.staleness, ("inf",), 0)
        whole_or("max_delay", self.max_delay, ("off", "auto"), 1)
        if self.test_fraction + self.validation_fraction > 0.95:
            raise ConfigError(
                f"test_fraction + validation_fraction: got {self.test_fraction + self.validation_fraction:g}; "
                "at most 0.95, or no rows are left to train on"
            )
        if self.group and self.time:
            raise ConfigError("time: does not go with --group; give the one that decides which rows belong together")
        if self.patience and self.validation_fraction == 0 and not self.validation_data:
            raise ConfigError("patience: needs validation rows, but validation_fraction is 0; set it above 0")
        if self.heal and self.init == "per-rank":
            raise ConfigError('heal: replicas that start apart (init = "per-rank") have no majority; leave --heal out')
        module, colon, name = self.model.partition(":")
        if colon and not all(part.isidentifier() for part in (*module.split("."), name)):
            raise ConfigError(f"model: got {shown(self.model)}; a class of one's own is named {OWN_MODEL}")
        fixed = {"linear": "mse", "logistic": "cross-entropy", "softmax": "cross-entropy"}.get(self.model)
        if fixed and self.loss not in ("auto", fixed):
            raise ConfigError(f"loss: {self.loss!r} does not go with model {self.model!r}; use {fixed} or auto")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that msgpack and TOML can hold (``hidden`` as a list)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


OPTIONS = options_of(RunConfig)
"""All options of a run."""
ONLY_ON_COMMAND_LINE = tuple(name for name, one in OPTIONS.items() if one.command_line_only)


def to_toml(values: dict[str, Any]) -> str:
    """Write flat values as TOML lines, which JSON's values are but for a raw DEL; any text comes back unchanged.

    None, which TOML lacks, is left out: it is a default.
    """
    import json  # on rank 0 only

    lines = (
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items() if value is not None
    )
    return "".join(lines).replace("\x7f", "\\u007f")
