"""Takes data from a function that a user has written, named ``package.module:function``."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from common import own_code
from common.config import RunConfig
from common.data.dataset import Raw
from common.data.named_arrays import read_arrays
from common.errors import ConfigError
from common.flat import Array

OPTION = "data"
RETURNS = (
    "it returns (X, y), or a dict of X, y and, if there, X_val, y_val, X_test, y_test, sample_weight, or what "
    "scikit-learn's loaders return"
)


class ReturnedArrays:
    """What is in the dict that the function returned; only what is asked for need be arrays."""

    def __init__(self, name: str, returned: Mapping[Any, Any]) -> None:
        """``name``: of the function."""
        self._name, self._returned = name, {str(key): value for key, value in returned.items()}
        self._arrays: dict[str, Array] = {}

    @property
    def names(self) -> list[str]:
        """The names of all."""
        return list(self._returned)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one. Raises ConfigError."""
        return self.read(name).shape

    def read(self, name: str) -> Array:
        """Return one. Raises ConfigError."""
        if name not in self._arrays:
            self._arrays[name] = _array(self._name, name, self._returned[name])
        return self._arrays[name]


def read_function(config: RunConfig, rank: int, size: int) -> Raw:
    """Call the function and return its arrays; ``rank`` and ``size`` are given to it if it takes them.

    All ranks need the same data. Raises ConfigError for what is wrong with the function, DataError with its arrays.
    """
    name = config.data
    function = own_code.find(name, OPTION, "function", inspect.isroutine)
    takes = own_code.attempt(name, "its signature", lambda: inspect.signature(function).parameters, OPTION)
    given = {word: value for word, value in (("rank", rank), ("size", size)) if word in takes}
    returned = own_code.attempt(name, f"{function.__name__}()", lambda: function(**given), OPTION)
    if isinstance(returned, tuple) and len(returned) == 2:
        returned = dict(zip(("X", "y"), returned, strict=True))
    names: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    if isinstance(returned, Mapping) and {"data", "target"} <= returned.keys():  # scikit-learn's Bunch
        names, targets = (_texts(returned.get(key)) for key in ("feature_names", "target_names"))
        returned = {"X": returned["data"], "y": returned["target"]}
    if not isinstance(returned, Mapping) or not {"X", "y"} <= returned.keys():
        raise ConfigError(f"{OPTION} {name}: returned {_described(returned)}; {RETURNS}")
    raw = read_arrays(name, name, ReturnedArrays(name, returned), config)
    columns = [str(column) for column in getattr(returned["X"], "columns", names)]
    raw.feature_names = columns if raw.x.shape[1:] == (len(columns),) else []
    if len(targets) == (raw.y.shape[1] if raw.y.ndim == 2 else 1):
        raw.target_names = list(targets)
    elif _number_all_of(raw.y, targets) and not (config.loss == "mse" or config.model == "linear"):
        raw.label_names = list(targets)
    return raw


def _texts(value: Any) -> tuple[str, ...]:
    """Return a list of names; nothing for what is none."""
    return tuple(str(text) for text in value) if isinstance(value, list | tuple | np.ndarray) else ()


def _number_all_of(y: Array, texts: tuple[str, ...]) -> bool:
    """Say whether a target is the numbers of texts, from 0."""
    whole = y.ndim == 1 and y.dtype.kind in "iu" and len(y) > 0
    return whole and np.array_equal(np.unique(y), np.arange(len(texts)))


def _array(name: str, key: str, value: Any) -> Array:
    if hasattr(value, "toarray"):
        raise ConfigError(f"{OPTION} {name}: {key} is a sparse matrix; return {key}.toarray()")
    made: Array = own_code.attempt(name, key, lambda: np.asarray(value), OPTION)
    if made.dtype.kind == "O" and made.size and all(isinstance(cell, str) for cell in made.flat):
        made = made.astype(str)
    if made.dtype.kind not in "fiubU":
        raise ConfigError(
            f"{OPTION} {name}: {key} is {_described(value)} of {made.dtype}; it takes an array of numbers"
        )
    return made


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(str(key)[:40] for key in list(value)[:10]) or 'nothing'}"
    n = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{n}"
