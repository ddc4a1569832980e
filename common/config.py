"""The one configuration of a run: every option with its type, default, allowed values and help line."""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from common.errors import ConfigError

MODELS = ("linear", "logistic", "softmax", "mlp")
OWN_MODEL = "package.module:Class"
"""How a model class of one's own is named."""
ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu")
LOSSES = ("auto", "mse", "cross-entropy")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "warmup", "warmup-step", "warmup-cosine")
MANY = 10**9
"""A bound far above what anyone trains, far below what overflows in a step count or a message."""
ONLY_ON_COMMAND_LINE = ("inject", "resume")
"""Options that no file and no environment may set: nobody is to get them without naming them."""


def nearest(got: str, known: Iterable[str]) -> str:
    """Return ``(did you mean 'x'?) `` for the closest of ``known``, or nothing."""
    close = difflib.get_close_matches(got, list(known), n=2, cutoff=0.6)
    return f"(did you mean {' or '.join(repr(c) for c in close)}?) " if close else ""


def unknown_value(name: str, got: str, known: Iterable[str]) -> str:
    """Say that ``got`` is not one of ``known``, with the nearest of them first."""
    known = list(known)
    return f"{name}: unknown value {got!r} {nearest(got, known)}; choose one of {', '.join(known)}".replace(" ;", ";")


def is_own_model(model: str) -> bool:
    """Say whether ``model`` names a class of one's own."""
    return ":" in model


def is_text(value: str) -> bool:
    """Say whether messages, the log and paths can hold ``value``: no NUL, and no surrogates (bytes not UTF-8)."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def _opt(default: Any, text: str, **limits: Any) -> Any:
    """Declare an option; ``limits``: choices, low, high, low_open and high_open (the bound itself is out), longest."""
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All options of a run; checked when made.

    Raises ConfigError, naming the option, what was got and what is allowed.
    """

    mode: str = _opt("allreduce", "how gradients are collected")
    model: str = _opt("mlp", "what is trained", choices=(*MODELS, OWN_MODEL))
    hidden: tuple[int, ...] = _opt((256,), "sizes of the hidden layers of an mlp", low=1, high=10**6, longest=1000)
    activation: str = _opt("relu", "activation of the hidden layers", choices=ACTIVATIONS)
    loss: str = _opt("auto", "auto follows the model and, where it takes both, the type of the target", choices=LOSSES)
    data: str = _opt("digits", "a data set")  # the command line says which there are
    target: str = _opt("", "the column of a .csv file to predict")
    standardize: bool = _opt(True, "scale features to mean 0 and deviation 1 of the training rows")
    test_fraction: float = _opt(0.2, "rows kept for the final test (not used when X_test is given)", low=0.0, high=0.9)
    validation_fraction: float = _opt(0.1, "rows kept for the loss after each epoch", low=0.0, high=0.9)
    rows: str = _opt("shuffle", "shuffle: dealt anew each epoch; shard: fixed per rank", choices=("shuffle", "shard"))
    epochs: int = _opt(30, "passes over the training rows", low=1, high=MANY)
    batch_size: int = _opt(64, "rows of all ranks together in a step; 0: all rows", low=0, high=MANY)
    optimizer: str = _opt("adam", "update rule", choices=OPTIMIZERS)
    learning_rate: float = _opt(0.002, "step size before the schedule", low=0.0, low_open=True, high=1e30)
    momentum: float = _opt(0.9, "for momentum and nesterov", low=0.0, high=1.0, high_open=True)
    schedule: str = _opt("constant", "learning rate over time", choices=SCHEDULES)
    warmup_epochs: float = _opt(1.0, "length of the linear warm-up of the warmup schedules", low=0.0, high=float(MANY))
    step_epochs: int = _opt(10, "the step schedules multiply the rate every so many epochs", low=1, high=MANY)
    step_factor: float = _opt(0.1, "what they multiply it with", low=0.0, low_open=True, high=1.0)
    weight_decay: float = _opt(0.0, "L2 penalty on all parameters (decoupled in adamw)", low=0.0, high=1e6)
    clip: float = _opt(0.0, "largest norm of the global gradient; 0: no clipping", low=0.0, high=1e30)
    patience: int = _opt(0, "stop after so many epochs without a lower validation loss; 0: never", low=0, high=MANY)
    init: str = _opt(
        "broadcast",
        "broadcast: every rank starts as rank 0; per-rank: each on its own",
        choices=("broadcast", "per-rank"),
    )
    seed: int = _opt(0, "of initial weights, split and order", low=0, high=2**32 - 1)
    dtype: str = _opt("float32", "of parameters, gradients and data", choices=("float32", "float64"))
    checkpoint_every: int = _opt(0, "save the state of training after so many epochs; 0: not", low=0, high=MANY)
    checkpoint_minutes: float = _opt(10.0, "and after so many minutes; 0: not", low=0.0, high=1e6)
    keep: int = _opt(2, "how many checkpoints are kept", low=1, high=1000)
    nonfinite: str = _opt(
        "stop", "a loss or gradient that is not finite: stop, or skip the step", choices=("stop", "skip")
    )
    nonfinite_most: int = _opt(10, "stop after so many skipped steps in a row", low=1, high=MANY)
    heal: bool = _opt(False, "repair ranks whose parameters differ from those of most, instead of stopping")
    elastic: bool = _opt(False, "go on without ranks that die (Open MPI started with mpirun --with-ft ulfm)")
    resume: str = _opt("", "go on with a run: its folder, its name under runs/, or auto for the newest that can")
    stall_seconds: float = _opt(60.0, "name the rank the others have waited for so long; 0: never", low=0.0, high=1e6)
    abort_stall: float = _opt(
        300.0, "and end the job after so many seconds without progress; 0: never", low=0.0, high=1e6
    )
    output: str = _opt("", "the run folder (default runs/<time>-<mode>-<ranks>)")
    ranks_per_node: int = _opt(0, "pretend that so many ranks share a node (for tests); 0: as it is", low=0, high=MANY)
    inject: str = _opt(
        "",
        "faults on purpose, for demonstrations and tests, with ; between them: slow:rank=2,x=3 or skew (makes rows "
        "shard) or nan:rank=1,step=50 or diverge:, hang: or die:rank=1,step=50; not from a file or the environment",
    )
    verbose: bool = _opt(False, "print gradient, contribution and sync time of every process and epoch")
    debug: bool = _opt(False, "print a traceback with every error")

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check_option(f, getattr(self, f.name))
        if self.test_fraction + self.validation_fraction > 0.95:
            raise ConfigError(
                f"test_fraction + validation_fraction: got {self.test_fraction + self.validation_fraction:g}; "
                "at most 0.95, or no rows are left to train on"
            )
        if self.patience and self.validation_fraction == 0:
            raise ConfigError("patience: needs validation rows, but validation_fraction is 0; set it above 0")
        if self.heal and self.init == "per-rank":
            raise ConfigError('heal: replicas that start apart (init = "per-rank") have no majority; leave --heal out')
        module, _, name = self.model.partition(":")
        if is_own_model(self.model) and not all(part.isidentifier() for part in (*module.split("."), name)):
            raise ConfigError(f"model: got {_shown(self.model)}; a class of one's own is named {OWN_MODEL}")
        allowed_losses = {"linear": "mse", "logistic": "cross-entropy", "softmax": "cross-entropy"}
        fixed = allowed_losses.get(self.model)
        if fixed and self.loss not in ("auto", fixed):
            raise ConfigError(f"loss: {self.loss!r} does not go with model {self.model!r}; use {fixed} or auto")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that msgpack and TOML can hold (``hidden`` as a list)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Make a configuration from ``as_dict`` values."""
        return cls(**{**values, "hidden": tuple(values["hidden"])})


_ALLOWED: dict[Any, str] = {
    str: "a text of valid characters other than NUL",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple[int, ...]: "a list of whole numbers",
}


def check_option(option: "dataclasses.Field[Any]", value: Any) -> None:
    """Raise ConfigError unless ``value`` keeps the option's type and limits."""
    name, limits = option.name, option.metadata
    if not _has_type(option.type, value):
        raise ConfigError(f"{name}: got {_shown(value)}; allowed is {_ALLOWED[option.type]}")
    choices = limits.get("choices", (value,))
    if value not in choices and not (OWN_MODEL in choices and is_own_model(value)):
        raise ConfigError(unknown_value(name, value, choices))
    if isinstance(value, tuple) and len(value) > limits["longest"]:
        raise ConfigError(f"{name}: got {len(value)} numbers; allowed is at most {limits['longest']}")
    for number in value if isinstance(value, tuple) else (value,):
        _check_range(name, number, limits)


def _has_type(kind: Any, value: Any) -> bool:
    if kind is str:
        return isinstance(value, str) and is_text(value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, int) or (kind is float and isinstance(value, float))
    return isinstance(value, tuple) and all(_has_type(int, part) for part in value)


def _shown(value: Any) -> str:
    """Return ``value`` for a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _check_range(name: str, number: Any, limits: Any) -> None:
    if isinstance(number, str | bool):
        return
    low, high = limits.get("low"), limits.get("high")
    bad_low = low is not None and (number < low or (limits.get("low_open", False) and number == low))
    bad_high = high is not None and (number > high or (limits.get("high_open", False) and number == high))
    if bad_low or bad_high or not math.isfinite(number):
        lower = "" if low is None else f"above {low}" if limits.get("low_open") else f"at least {low}"
        upper = "" if high is None else f"below {high}" if limits.get("high_open") else f"at most {high}"
        raise ConfigError(f"{name}: got {_shown(number)}; allowed is {' and '.join(filter(None, (lower, upper)))}")


def to_toml(values: dict[str, Any]) -> str:
    """Write flat values as TOML lines; texts as basic strings, so any text comes back unchanged."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = (c if c not in '"\\\x7f' and c >= " " else f"\\u{ord(c):04x}" for c in value)
        return f'"{"".join(escaped)}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return repr(value)
