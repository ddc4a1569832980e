"""A transformer as scikit-learn knows it: found by its name, fitted, saved by skops and read again, asked for features.

Runs in child processes alone, which may import what it needs.
"""

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from common import memory, module_file, own_code
from common.errors import ConfigError
from common.files import open_regular
from common.flat import Array
from common.wording import listed

OPTION = "prepare"
IS = "a transformer of scikit-learn has fit and transform; name one, or a function without arguments that returns one"
KNOWN = ["numpy.dtype"]
"""Types that skops does not trust by itself, though nothing runs when one is made."""
MOST_NAMED, FEW = 40, 3
TOO_MANY = 1_000_000
"""Features."""


@contextlib.contextmanager
def packages() -> Iterator[None]:
    """Turn a package that is not there into a ConfigError that names the extra."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{OPTION}: {error.name or error} is not installed; pip install 'rankwise[skops]'") from error


def _is_transformer(made: Any) -> bool:
    return not isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "transform")


def find(name: str) -> Any:
    """Return the transformer that a user names as ``package.module:name``. Raises ConfigError."""
    made = own_code.find(name, OPTION, "transformer", lambda value: _is_transformer(value) or callable(value))
    if not _is_transformer(made):
        made = own_code.attempt(name, f"{name.partition(':')[2]}()", made, OPTION)
    if not _is_transformer(made):
        raise ConfigError(f"{OPTION} {name}: got a {type(made).__name__}; {IS}")
    return made


def is_fitted(name: str, transformer: Any, few: Any) -> bool:
    """Say whether a transformer is fitted, or needs not to be. ``few``: rows that it is tried on."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:  # a Pipeline only asks its last step, which may have nothing to fit
        check_is_fitted(transformer)
        transformer.transform(few)
    except NotFittedError:
        return False
    except Exception as error:
        raise ConfigError(f"{OPTION} {name}: transform() failed: {own_code.describe(error)}") from error
    return True


def fitted(name: str, transformer: Any, frame: Any, y: Array) -> Any:
    """Return a clone, fitted to rows and their target. Raises ConfigError."""
    from sklearn.base import clone

    return own_code.attempt(name, "fit()", lambda: clone(transformer).fit(frame, y), OPTION)


def save(name: str, transformer: Any) -> tuple[bytes, list[str]]:
    """Return the file, and the types in it that skops does not know. Raises ConfigError."""
    from skops import io as skops

    content = own_code.attempt(name, "saving it with skops", lambda: skops.dumps(transformer), OPTION)
    return content, [one for one in skops.get_untrusted_types(data=content) if one not in KNOWN]


def _is_trusted(one: str, trusted: Sequence[str]) -> bool:
    """Say whether a type is named, or lies in a package that is; of Python's own library each is named by itself."""
    whole = [name for name in trusted if name not in sys.stdlib_module_names]
    return one in trusted or any(one.startswith(f"{name}.") for name in whole)


def in_short(types: Sequence[str]) -> str:
    """Return types as ``--trust-types`` takes them: of many in one package its name."""
    tops = {one: one.partition(".")[0] for one in types}
    many = {top for top in tops.values() if list(tops.values()).count(top) > FEW and top not in sys.stdlib_module_names}
    return ",".join(dict.fromkeys(top if top in many else one for one, top in tops.items()))


def read(path: Path) -> bytes:
    """Return the content of a file. Raises ConfigError."""
    try:
        with open_regular(path) as file:
            memory.check(str(path), os.fstat(file.fileno()).st_size)
            return file.read()
    except OSError as error:
        raise ConfigError(
            f"{path}: the transformer that the model was trained with cannot be read ({error.strerror}); it lies "
            "beside the model in the run's folder"
        ) from error


def load(name: str, content: bytes, sha256: str, trusted: Sequence[str], where: str) -> Any:
    """Return a transformer from its file. Raises ConfigError if it is another one, or holds types that are not trusted.

    Nothing is imported before it is. ``trusted``: names of types, or of packages with all of theirs. ``where``: the
    file, for messages.
    """
    from skops import io as skops

    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConfigError(
            f"{where}: is not the transformer that the model was trained with (SHA-256 {sha256[:12]}... then); put "
            "the file back as it was"
        )
    try:
        with ZipFile(io.BytesIO(content)) as file:
            memory.check(where, sum(member.file_size for member in file.infolist()))
        found = skops.get_untrusted_types(data=content)
        unknown = [one for one in found if one not in KNOWN and not _is_trusted(one, trusted)]
        if unknown:
            raise ConfigError(
                f"{where}: {name} holds types that skops does not know: {listed(unknown[:MOST_NAMED])}; loading it "
                f"runs their code: if you trust it, add --trust-types {in_short(unknown)}"
            )
        own_code.reachable()
        return skops.loads(content, trusted=found)
    except (ConfigError, memory.MemoryLimitError):
        raise
    except module_file.RunFolderError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{where}: cannot be read by skops ({own_code.describe(error)})") from error


def features(name: str, transformer: Any, frame: Any) -> Array:
    """Return the features of some rows, (n, n_features) float32, NaN where one is missing. Raises ConfigError."""
    found = own_code.attempt(name, "transform()", lambda: transformer.transform(frame), OPTION)
    if hasattr(found, "toarray"):
        found = found.toarray()
    try:
        x = np.asarray(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{OPTION} {name}: transform() returned a {type(found).__name__} that holds no numbers "
            f"({' '.join(str(error).split())[:200]}); encode texts and dates, too"
        ) from error
    if x.ndim != 2 or len(x) != len(frame) or not 0 < x.shape[1] <= TOO_MANY:
        raise ConfigError(
            f"{OPTION} {name}: transform() returned the shape {x.shape} for {len(frame)} rows; it takes "
            "(rows, features)"
        )
    if np.isinf(x).any():
        column = int(np.argwhere(np.isinf(x))[0][1])
        raise ConfigError(
            f"{OPTION} {name}: transform() returned infinity, or a number beyond float32, in feature {column + 1}; "
            "only finite numbers, or NaN for a missing one"
        )
    return np.ascontiguousarray(x)


def names(transformer: Any, n: int) -> list[str]:
    """Return the names of its features, if it has any that fit; else numbers."""
    with contextlib.suppress(Exception):  # transformers need not have names
        found = [str(one) for one in transformer.get_feature_names_out()]
        if len(found) == n and len(set(found)) == n:
            return found
    return [f"feature {i}" for i in range(1, n + 1)]
