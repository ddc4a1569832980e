"""What FILE is that the user names: a table, arrays in one of several kinds of files, or a folder of such."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.data import array_names
from common.data.idx_file import TEST as IDX_TEST
from common.data.idx_file import TRAIN as IDX_TRAIN
from common.data.idx_file import images_in, is_idx
from common.data.npy_arrays import paths_of
from common.data.prepared_file import is_prepared
from common.data.sources import LIBSVM as LIBSVM_ENDINGS
from common.errors import DataError
from common.files import require_regular

TABLE, LIBSVM, NPZ, NPY, NPY_FOLDER, IDX, IDX_FOLDER, PREPARED = (
    "a table", "a LIBSVM file", "an .npz file", "an .npy file", "a folder of .npy files", "an IDX file",
    "a folder of IDX files", "a prepared folder",
)  # fmt: skip
TABLES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".pq")
FOLDERS = (NPY_FOLDER, IDX_FOLDER, PREPARED)
WITH_SETS = (NPZ, *FOLDERS)
"""What may hold rows to train on, to validate and to test."""


@dataclass(frozen=True, slots=True)
class Input:
    """``kind``: one of those above. ``paths``: of the file or folder; of two .npy files, of features and of target."""

    kind: str
    paths: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The file or folder, of several the first one."""
        return self.paths[0]

    def files(self) -> list[Path]:
        """Return the files that may be read. Raises OSError."""
        return sorted(self.path.iterdir()) if self.kind in FOLDERS else list(self.paths)


def look_at(data: str) -> Input:
    """Return what ``data`` names. Raises DataError if nothing is there, or of no known kind."""
    path = Path(data)
    try:
        if path.is_dir():
            return Input(_kind_of_folder(path), (path,))
        name = path.name.lower()
        kind = next((kind for kind, fits in _KINDS.items() if fits(name)), "")
        paths = tuple(paths_of(data)) if kind == NPY else (path,)
        for path in paths:
            require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"file: no file {path}") from error
    except OSError as error:
        raise DataError(f"file: {path} cannot be read ({error.strerror})") from error
    if not kind:
        endings = ", ".join((".npz", ".npy", *LIBSVM_ENDINGS[:3], *TABLES))
        raise DataError(f"file: got {path}; allowed is a name that ends with {endings}, an IDX file, or a folder")
    if len(paths) > 2:
        raise DataError(f"file: got {data}; two .npy files are features and target: X.npy,y.npy")
    return Input(kind, paths)


_KINDS: dict[str, Callable[[str], bool]] = {
    IDX: is_idx,
    NPZ: lambda name: name.endswith(".npz"),
    NPY: lambda name: name.endswith(".npy"),
    LIBSVM: lambda name: name.endswith(LIBSVM_ENDINGS),
    TABLE: lambda name: name.endswith(TABLES),
}
"""Of files, by their names in small letters; the first that fits counts."""


def _kind_of_folder(folder: Path) -> str:
    """Return what a folder holds. Raises DataError if that is nothing known, OSError if it cannot be read."""
    if is_prepared(folder):
        return PREPARED
    if images_in(folder, IDX_TRAIN, *IDX_TEST):
        return IDX_FOLDER
    if any(array_names.part(path) for path in folder.glob("*.npy")):
        return NPY_FOLDER
    raise DataError(
        f"file: {folder} is a folder without files that are known; allowed is {PREPARED}, and one of IDX or .npy files "
        "(X.npy, X_test.npy, X-000.npy); else name a file"
    )
