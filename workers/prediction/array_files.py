"""Finds the arrays of a FILE: features, and the target and weights where they are asked for; of several sets one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.arrays_file import NUMBERS, open_arrays
from common.data import array_names
from common.data.idx_file import TEST as IDX_TEST
from common.data.idx_file import TRAIN as IDX_TRAIN
from common.data.idx_file import images_in, labels_beside
from common.data.maps import map_as_it_lies
from common.data.named_arrays import SAMPLE_WEIGHT
from common.data.packed_file import ENDING
from common.data.prepared_file import Prepared
from common.data.stacked import Stacked
from common.data.text_labels import KINDS
from common.errors import BrokenFileError, DataError
from common.nn.model_file import ModelFile
from common.wording import listed
from workers.prediction import inputs
from workers.prediction.array_sources import Held, IdxArray, Member, RowSource, broken_npz
from workers.prediction.inputs import Input
from workers.prediction.options import AUTO, DATA_SET, TEST_SET, VALIDATION_SET
from workers.prediction.prepared_columns import Convert, converter
from workers.prediction.rows import Asked

ENDS = {DATA_SET: "", VALIDATION_SET: "_val", TEST_SET: "_test"}
"""Of the names of arrays of each set in an .npz file."""
ROLES = {array_names.TRAIN: DATA_SET, array_names.VALIDATION: VALIDATION_SET, array_names.TEST: TEST_SET}


@dataclass(slots=True)
class Arrays:
    """``labels``: the texts of which ``y`` has the codes, if it has codes.

    ``convert``: makes of features those of the model; None: they are what the model takes, or numbers of columns.
    """

    x: RowSource
    y: RowSource | None = None
    weight: RowSource | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    convert: Convert | None = None


def find(given: Input, model: ModelFile, asked: Asked) -> Arrays:
    """Return the arrays of a file or folder. Raises DataError, and MemoryLimitError."""
    if given.kind == inputs.PREPARED:
        return _prepared(given.path, model, asked)
    if asked.weight and given.kind != inputs.NPZ:
        raise DataError(f"weight: {given.path} holds no weights; leave --weight out")
    return FINDERS[given.kind](given, asked)


def _chosen(where: Path, there: Collection[str], asked: Asked, notes: list[str]) -> str:
    """Return which of the sets that are there is taken. Raises DataError if it is none of them."""
    names = [name for name in ENDS if name in there]
    which = asked.which
    if which == AUTO:
        which = DATA_SET if DATA_SET in names else names[0]
    if which not in names:
        raise DataError(f"set: {where} has no set {which}; it has {listed(names)}")
    if len(names) > 1 and asked.which == AUTO:
        others = " or ".join(name for name in names if name != which)
        notes.append(f"{where}: of its sets {which} is taken; --set {others} takes another.")
    return which


def _of_npz(given: Input, asked: Asked) -> Arrays:
    path, notes = given.path, list[str]()
    try:
        with open_arrays(path) as arrays:
            have = arrays.names
    except BrokenFileError as error:
        raise broken_npz(path, error) from error
    sets = [name for name, end in ENDS.items() if f"X{end}" in have]
    end = ENDS[_chosen(path, sets or [DATA_SET], asked, notes)]
    weight = asked.weight or (SAMPLE_WEIGHT if asked.wants_y and SAMPLE_WEIGHT + end in have else "")
    names = [f"X{end}", *[f"y{end}"] * asked.wants_y, *[f"{weight}{end}"] * bool(weight)]
    if absent := [name for name in names if name not in have]:
        raise DataError(f"{path}: holds no {', '.join(absent)}; it has {', '.join(sorted(have)[:20])}")
    x, *others = (Member.of(path, name) for name in names)
    y = others.pop(0) if asked.wants_y else None
    return Arrays(x, y, others[0] if others else None, notes)


def _of_npy(given: Input, asked: Asked) -> Arrays:
    x, *others = given.paths
    if not asked.wants_y:
        return Arrays(_mapped(x))
    return Arrays(_mapped(x), _mapped(others[0] if others else _target_of(x), KINDS))


def _of_npy_folder(given: Input, asked: Asked) -> Arrays:
    notes: list[str] = []
    found = {ROLES[role]: some for role, some in array_names.parts(given.path.glob("*.npy")).items()}
    files = found[_chosen(given.path, found, asked, notes)]
    x = _behind(given.path, [_mapped(one.path) for one in files])
    y = _behind(given.path, [_mapped(_target_of(one.path), KINDS) for one in files]) if asked.wants_y else None
    return Arrays(x, y, notes=notes)


def _target_of(x: Path) -> Path:
    """Return the file of the target that lies beside one of features. Raises DataError if there is none."""
    named = array_names.part(x)
    names = named.target_names if named else []
    found = next((path for name in names if (path := x.with_name(name)).exists()), None)
    if found is None:
        beside = f" without {' or '.join(names)} beside it" * bool(names)
        raise DataError(
            f"{x}: holds features alone{beside}; to evaluate, name X and y: {x.name},TARGET.npy, or give an .npz"
        )
    return found


def _behind(folder: Path, parts: list[Held]) -> Held:
    """Return the arrays of several files behind each other. Raises DataError where their rows are not alike."""
    for other in parts[1:]:
        if other.shape[1:] != parts[0].shape[1:] or (other.kind == "U") != (parts[0].kind == "U"):
            raise DataError(
                f"{folder}: {other.name} has the shape {other.shape}, which does not go with {parts[0].shape} of "
                f"{parts[0].name}"
            )
    if len(parts) == 1:
        return parts[0]
    arrays = [part.array for part in parts if isinstance(part.array, np.ndarray)]
    return Held(parts[0].name, Stacked([array[:, None] if array.ndim == 1 else array for array in arrays]))


def _mapped(path: Path, kinds: str = NUMBERS) -> Held:
    try:
        array = map_as_it_lies(path, kinds)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    if not array.ndim:
        raise DataError(f"{path}: holds one number, no rows")
    return Held(path.name, array)


def _of_idx(given: Input, asked: Asked) -> Arrays:
    return _of_images(given.path, asked, [])


def _of_idx_folder(given: Input, asked: Asked) -> Arrays:
    notes: list[str] = []
    words = {DATA_SET: (IDX_TRAIN,), TEST_SET: IDX_TEST}
    found = {name: some for name, of_set in words.items() if (some := images_in(given.path, *of_set))}
    files = found[_chosen(given.path, found, asked, notes)]
    if len({one.name.removesuffix(ENDING) for one in files}) > 1:
        raise DataError(f"{given.path}: {', '.join(one.name for one in files[:4])}: name one of them")
    return _of_images(files[0], asked, notes)


def _of_images(path: Path, asked: Asked, notes: list[str]) -> Arrays:
    x = IdxArray.of(path, flat=True)
    return Arrays(x, IdxArray.of(labels_beside(path), flat=False) if asked.wants_y else None, notes=notes)


FINDERS: dict[str, Callable[[Input, Asked], Arrays]] = {
    inputs.NPZ: _of_npz,
    inputs.NPY: _of_npy,
    inputs.NPY_FOLDER: _of_npy_folder,
    inputs.IDX: _of_idx,
    inputs.IDX_FOLDER: _of_idx_folder,
}


def _prepared(folder: Path, model: ModelFile, asked: Asked) -> Arrays:
    prepared, notes = Prepared.load(folder), list[str]()
    prepared.require_unchanged()
    convert = converter(prepared, model)
    sets = [name for name in ENDS if (rows := prepared.rows_of(name)).stop > rows.start]
    rows = prepared.rows_of(_chosen(folder, sets, asked, notes))
    x, y, weight = (prepared.array(name) for name in ("x", "y", "weight"))
    assert x is not None
    assert y is not None
    found = Arrays(Held("x.npy", x[rows]), notes=notes, convert=convert)
    named = str(prepared.facts["options"].get("weight", ""))
    if asked.weight not in ("", named):
        raise DataError(
            f"weight: {folder} was prepared {f'with --weight {named}' if named else 'without weights'}; leave --weight "
            "out, or prepare the table again"
        )
    if not asked.wants_y:
        return found
    names, labels = (list(prepared.facts["target"][name]) for name in ("names", "labels"))
    wanted = list(model.facts.targets)
    if wanted and names != wanted:
        raise DataError(
            f"target: {folder} was prepared with the target {', '.join(map(repr, names))}, but the model predicts "
            f"{', '.join(map(repr, wanted))}"
        )
    found.y, found.labels = Held("y.npy", y[rows]), labels
    found.weight = None if weight is None else Held("weight.npy", weight[rows])
    return found
