"""Finds, makes and checks a user's own model class, named ``package.module:Class``."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from reprlib import repr as brief
from typing import Any

from common import module_file, own_code
from common.errors import ConfigError, DataError
from common.nn.functional import LogisticCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from common.nn.models import Model

METHODS = ("shapes", "init", "predict", "loss_grad")
LOSS_METHODS = ("encode", "sum", "correct")
RESERVED = (
    "file", "allow_pickle", "x_mean", "x_scale", "x_fill", "x_kept", "y_mean", "y_scale", "classes", "label_names",
    "baseline", "facts",
)  # fmt: skip
"""Names that no parameter in model.npz can have: arguments of numpy.savez, and what else is saved there."""
MOST_NUMBERS = 2**40


def load(
    name: str, n_features: int, n_classes: int, n_targets: int, *, labels: bool = False, weighted: bool = False
) -> Model:
    """Import the class, also from the current folder, and make a model for the data.

    ``n_classes`` is 0 for a regression, and for several ``labels``, each on or off. ``weighted``: rows have weights.

    Raises ConfigError for what is wrong with the class, DataError where the target does not fit the model's loss.
    """
    kind, n_outputs = own_code.find(name, "model", "class", _is_class), n_classes or n_targets
    model: Model = attempt(name, f"{kind.__name__}({n_features}, {n_outputs})", lambda: kind(n_features, n_outputs))
    if isinstance(model, Mlp):
        raise ConfigError(
            f"model {name}: it is a subclass of Mlp, and would be trained as an Mlp, without what it changes; write a "
            "class without that base"
        )
    if missing := _missing(model, METHODS):
        raise ConfigError(f"model {name}: has no method {missing}; a model has {', '.join(METHODS)}")
    _check_shapes(name, attempt(name, "shapes()", model.shapes))
    _check_loss(name, getattr(model, "loss", None), n_classes, labels=labels)
    if weighted:
        _check_weights(name, model)
    return model


def file_of(name: str) -> module_file.ModuleFile | None:
    """Return the file that the class is imported from. Raises ConfigError if that is inside a run folder."""
    return own_code.file_of(name)


def attempt(name: str, what: str, act: Callable[[], Any]) -> Any:
    """Run a part of a user's class; what it raises is a ConfigError."""
    return own_code.attempt(name, what, act)


def _is_class(made: Any) -> bool:
    return isinstance(made, type)


def _missing(made: Any, methods: tuple[str, ...]) -> str:
    return ", ".join(method for method in methods if not callable(getattr(made, method, None)))


def _check_shapes(name: str, shapes: Any) -> None:
    start = f"model {name}: shapes()"
    if not isinstance(shapes, dict) or not shapes:
        raise ConfigError(f"{start} returned {brief(shapes)}; it returns a dict of name to shape")
    for key, shape in shapes.items():
        if not (isinstance(key, str) and key.isidentifier()) or key in RESERVED:
            allowed = f"a name of letters, digits and _, but not {', '.join(RESERVED)}"
            raise ConfigError(f"{start} has a parameter {brief(key)}; allowed is {allowed}")
        if not (isinstance(shape, tuple) and all(type(n) is int and n > 0 for n in shape)):
            raise ConfigError(f"{start} gives {key} the shape {brief(shape)}; allowed is a tuple of int above 0")
    if sum(math.prod(shape) for shape in shapes.values()) > MOST_NUMBERS:
        raise ConfigError(f"{start} asks for more than {MOST_NUMBERS} numbers, which is the most allowed")


def _check_weights(name: str, model: Model) -> None:
    """Raise ConfigError unless the model and its loss take what rows count."""
    methods: dict[str, Callable[..., Any]] = {
        "loss_grad()": model.loss_grad,
        "loss.sum()": model.loss.sum,
        "loss.correct()": model.loss.correct,
    }
    for method, act in methods.items():
        if "weight" not in attempt(name, f"the signature of {method}", partial(inspect.signature, act)).parameters:
            raise ConfigError(
                f"model {name}: rows have weights, and {method} has no argument weight=None, (rows,), what each row "
                "counts in the sum and its gradient; add it, or leave --weight and --class-weight out and save the "
                ".npz without sample_weight"
            )


def _check_loss(name: str, loss: Any, n_classes: int, *, labels: bool) -> None:
    if missing := _missing(loss, LOSS_METHODS):
        raise ConfigError(
            f"model {name}: its loss, {brief(loss)}, has no method {missing}; take one of common/nn/functional.py, "
            "such as SoftmaxCrossEntropy(), or a class with the same methods"
        )
    wrong = ""
    if labels and isinstance(loss, MeanSquaredError | SoftmaxCrossEntropy):
        wrong = f"its loss is {type(loss).__name__}, but the target is several labels, which LogisticCrossEntropy takes"
        wrong += "; with a squared error add --loss mse"
    elif labels:
        pass
    elif isinstance(loss, MeanSquaredError) and n_classes:
        wrong = "its loss takes numbers, but the target is read as classes; add --loss mse"
    elif isinstance(loss, SoftmaxCrossEntropy | LogisticCrossEntropy) and not n_classes:
        wrong = "its loss takes classes, but the target is read as numbers; whole numbers are read as classes with "
        wrong += "--loss cross-entropy"
    elif isinstance(loss, LogisticCrossEntropy) and n_classes != 2:
        wrong = f"the target has {n_classes} classes; its loss takes 2"
    if wrong:
        raise DataError(f"model {name}: {wrong}")
