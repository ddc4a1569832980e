"""The parameters of the estimators: options of a run, in the constructor's signature and its documentation."""

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common import synonyms
from common.config import OPTIONS, RunConfig
from common.errors import ConfigError
from common.option import DATA, INTERNAL, Option

OF_ARRAYS = (
    "standardize", "standardize_target", "test_fraction", "validation_fraction", "rows", "max_memory", "split_seed",
)  # fmt: skip
"""Options of data that have a meaning for arrays, too; the others say how files are read."""
OF_COMMANDS = ("data", "target", "output", "resume", "start_from", "trust_model", "trust_types", "loss", "elastic",
               "inject", "class_weight", "debug")  # fmt: skip
"""Options that estimators decide themselves, or that belong to a job which is started by a command."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the constructor: its default, and a line of documentation."""

    default: Any
    help: str


_OWN = {
    "ranks": Parameter(1, "ranks that fit starts; under mpirun those that are there train"),
    "runs": Parameter("runs", "the folder in which each fit makes its run folder"),
    "verbose": Parameter(
        None,
        "None: a line of progress on a terminal or in a notebook once a fit takes longer than two seconds; True: a "
        "line for each epoch; False: nothing; 2: gradient, contribution and sync time of every rank as well",
    ),
}
_CHANGED = {
    "hidden": Parameter((256,), "sizes of the hidden layers of an mlp, such as (128, 64), or () for none"),
    "dtype": Parameter(None, "float32 or float64, of parameters, gradients and data; None: that of X"),
    "test_fraction": Parameter(0.0, "rows kept for a test at the end, whose result is in the run's log"),
    "validation_fraction": Parameter(0.1, "rows kept to stop early, where patience is given"),
    "checkpoint_minutes": Parameter(0.0, "save the state of training after so many minutes; 0: not"),
    "seed": Parameter(0, "of initial weights, split and order"),
}
"""Parameters whose default or meaning is another than that of the option."""


def _of_options() -> dict[str, Parameter]:
    taken = {
        name: option
        for name, option in OPTIONS.items()
        if name not in (*OF_COMMANDS, *_OWN) and option.group != INTERNAL
        and (option.group != DATA or name in OF_ARRAYS)
    }  # fmt: skip
    texts = {"modes": "allreduce, shared, factors, send-recv, reduce-bcast or auto", "sources": ""}
    return {
        name: _CHANGED.get(name) or Parameter(option.default, _in_python(option, texts))
        for name, option in taken.items()
    }


def _in_python(option: Option, texts: Mapping[str, str]) -> str:
    """Return an option's help with its choices, and other options by their names."""
    text = re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), option.help.format_map(texts))
    return text if all(choice in text for choice in option.choices) else f"{text} ({', '.join(option.choices)})"


PARAMETERS = {**_OWN, **_of_options()}
"""Of both estimators, by name."""


def constructor(parameters: Mapping[str, Parameter]) -> Callable[..., None]:
    """Return an ``__init__`` that takes these parameters by name, keeps them as they are, and shows them in its help.

    It raises TypeError for any other name.
    """

    def __init__(self: Any, **given: Any) -> None:  # noqa: N807 - it becomes one
        for name in given:
            if name not in parameters:
                near = synonyms.meant(name, list(parameters))
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise TypeError(
                    f"{type(self).__name__}: unknown parameter {name!r}{hint}; choose from {', '.join(parameters)}"
                )
        for name, parameter in parameters.items():
            setattr(self, name, given.get(name, parameter.default))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=parameter.default)
        for name, parameter in parameters.items()
    ]
    __init__.__signature__ = inspect.Signature([own, *named])  # type: ignore[attr-defined]
    return __init__


def documentation(text: str, parameters: Mapping[str, Parameter], attributes: Mapping[str, str]) -> str:
    """Return the docstring of an estimator: ``text``, then its parameters and what it has once it is fitted."""
    lines = [inspect.cleandoc(text), "", "Parameters", "----------"]
    for name, parameter in parameters.items():
        lines += [f"{name} : default {parameter.default!r}", *_indented(parameter.help)]
    lines += ["", "Attributes", "----------"]
    for name, about in attributes.items():
        lines += [name, *_indented(about)]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(f"{text[0].upper()}{text[1:]}.", 100, initial_indent="    ", subsequent_indent="    ")


def plain(value: Any) -> Any:
    """Return a parameter as options have it: grid searches give numbers of NumPy, and lists in place of tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(map(plain, value))
    return value


def config_of(parameters: Mapping[str, Any], x_dtype: np.dtype[Any], **decided: Any) -> RunConfig:
    """Return the options of a job. Raises ValueError, naming the parameter, what was got and what is allowed.

    ``decided``: what the estimator decides itself.
    """
    values = {name: plain(value) for name, value in parameters.items() if name in PARAMETERS and name not in _OWN}
    values["dtype"] = values["dtype"] or dtype_of(x_dtype)
    if isinstance(values["hidden"], int) and not isinstance(values["hidden"], bool):
        values["hidden"] = (values["hidden"],)
    if not values["patience"]:
        values["validation_fraction"] = 0.0
    values["verbose"] = plain(parameters["verbose"]) == 2
    _check_mode(values["mode"])
    try:
        return RunConfig(**values, **decided)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_mode(mode: Any) -> None:
    from common.option import unknown_value
    from ps.sync import mode_names

    modes = mode_names.read()
    if mode not in modes:
        raise ValueError(unknown_value("mode", str(mode), modes))


def check_own(parameters: Mapping[str, Any]) -> tuple[int, str]:
    """Return ``ranks`` and ``runs``. Raises ValueError."""
    ranks, runs, verbose = (plain(parameters[name]) for name in ("ranks", "runs", "verbose"))
    runs = os.fspath(runs) if isinstance(runs, os.PathLike) else runs
    if not isinstance(ranks, int) or isinstance(ranks, bool) or ranks < 1:
        raise ValueError(f"ranks: got {ranks!r}; allowed is a whole number of at least 1")
    if not isinstance(runs, str) or not runs:
        raise ValueError(f"runs: got {runs!r}; allowed is the path of a folder")
    if verbose not in (None, False, True, 2):
        raise ValueError(f"verbose: got {verbose!r}; allowed is None, False, True or 2")
    return ranks, runs


def dtype_of(x_dtype: np.dtype[Any]) -> str:
    """Return in which dtype features of one are trained on: float32 if that holds all of its numbers."""
    return "float32" if np.can_cast(x_dtype, np.float32) else "float64"


def options_of_run(config: RunConfig) -> dict[str, Any]:
    """Return the parameters that an estimator of a run would have."""
    return {name: getattr(config, name) for name in PARAMETERS if name in OPTIONS and name not in _OWN}
