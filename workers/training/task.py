"""What a job trains: its options, its data and its model, the same on every rank."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data import held_out_files, sources, training_features
from common.data.dataset import Dataset, check
from common.data.sampler import Joint
from common.data.target import LABELS
from common.errors import DataError
from common.files import do_nothing
from common.flat import Array
from common.nn import custom_model, models
from common.nn.functional import MeanSquaredError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.nn.score import Score, loss_weights, score_of
from common.option import is_own_model
from common.rank_status import WAITING, RankStatus
from common.wording import count
from ps.comm.agreement import at_root, same_everywhere, together
from ps.comm.places import require_on_all

if TYPE_CHECKING:
    from workers.preparation.transforming import Saved


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, in whichever mode. ``joint``: the epoch in which a resumed run changes its batch size."""

    config: RunConfig
    data: Dataset
    model: Model | Mlp
    joint: Joint | None = None

    def score(self) -> Score:
        """Return by what the model is judged."""
        return score_of(self.data, self.model.loss, own_model=not isinstance(self.model, Mlp))


def load(
    comm: MPI.Comm,
    config: RunConfig,
    rank_status: RankStatus,
    given: Mapping[str, Array] | None = None,
    check_fit: Callable[[Dataset], None] = lambda _: None,
    saved: "Saved | None" = None,
    asked_to_stop: Callable[[], object] = do_nothing,
) -> Dataset:
    """Read, check and scale the data on every rank. Raises JobError.

    ``given``: at rank 0, the scaling of the features that the parameters belong to, where a run has some already.
    ``check_fit``: raises JobError, on all ranks, where the data do not fit the job for other reasons than their own.
    ``saved``: the transformer of ``--prepare``, where an earlier job has fitted it. ``asked_to_stop``: whether this
    rank is, while a table is prepared.
    """

    def read() -> Dataset:
        with _alone(rank_status, "reading data"):
            return check(held_out_files.read(config, comm.rank, comm.size, prepared), config)

    require_on_all(comm, at_root(comm, lambda: sources.paths(config)))
    with _prepared(comm, config, rank_status, asked_to_stop) as prepared:
        data = together(comm, read)
        if prepared is not None and config.prepare:
            from workers.preparation.transforming import transform

            transform(comm, config, prepared, data, rank_status, saved, asked_to_stop)
    if data.unread:
        _add_digests(comm, data, rank_status)
    of_code = sources.source_of(config.data) == sources.OF_CODE
    remedy = "it must return the same on every rank" if of_code else "give every node the same file"
    same_everywhere(comm, data.sha256.encode(), f"data {data.name}", remedy)

    def enough() -> None:
        if comm.size > len(data.train):
            rows = count(len(data.train), "training row")
            raise DataError(f"{data.name}: {count(comm.size, 'rank')} for {rows}; start fewer ranks")

    together(comm, enough)
    check_fit(data)
    _scale_features(comm, config, data, rank_status, given)
    return data


def _prepared(
    comm: MPI.Comm, config: RunConfig, rank_status: RankStatus, asked_to_stop: Callable[[], object]
) -> contextlib.AbstractContextManager[Path | None]:
    """Return the prepared folder of a table, see ``prepared_table``; None of other data, which need no such code."""
    if not at_root(comm, lambda: sources.is_table(config.data)):
        return contextlib.nullcontext()
    from workers.preparation.for_training import prepared_table

    return prepared_table(comm, config, rank_status, asked_to_stop)


def _add_digests(comm: MPI.Comm, data: Dataset, rank_status: RankStatus) -> None:
    """Bring the features, which are mapped, into the SHA-256 of the data.

    The ranks of a node share the reading, so that each node has looked at the whole of its own file. Collective.
    """

    def read() -> bytearray:
        with _alone(rank_status, "reading data"):
            return training_features.digests(data, local.rank, local.size)

    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        found = together(comm, read)
        local.Allreduce(MPI.IN_PLACE, [found, MPI.BYTE], MPI.BOR)
    finally:
        local.Free()
    training_features.add_digests(data, bytes(found))


def _scale_features(
    comm: MPI.Comm, config: RunConfig, data: Dataset, rank_status: RankStatus, given: Mapping[str, Array] | None
) -> None:
    """Bring features to mean 0 and deviation 1 over the training rows, of which each rank looks at some. Collective.

    ``given``: at rank 0, see ``load``.
    """

    def look() -> Array:
        with _alone(rank_status, "preparing data"):
            return training_features.tables(data, comm.rank, comm.size)

    def scale() -> None:
        with _alone(rank_status, "preparing data"):
            training_features.scale(data, found, config.dtype, standardize=config.standardize, given=arrays)

    names = ("x_mean", "x_scale", "x_fill", "x_kept")
    known = at_root(comm, lambda: {name: given[name].tolist() for name in names if name in given} if given else None)
    arrays = None if known is None else {name: np.array(values) for name, values in known.items()}
    found = together(comm, look)
    comm.Allreduce(MPI.IN_PLACE, found)
    together(comm, scale)


def given_target_scaling(given: Mapping[str, Array], data: Dataset) -> tuple[Array, Array]:
    """Return mean and deviation as the parameters know the targets.

    They are not scaled where nothing is said of them, as in files of earlier versions. Raises DataError if the data
    have others.
    """
    n = data.n_targets
    mean = np.asarray(given.get("y_mean", np.zeros(n)), np.float64)
    deviation = np.asarray(given.get("y_scale", np.ones(n)), np.float64)
    if mean.shape != (n,) or deviation.shape != (n,):
        what = count(n, "target")
        raise DataError(f"{data.name}: {what}, but the parameters to start from were trained on {mean.size}")
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and deviation.all()):
        raise DataError(f"{data.name}: the parameters to start from come with a scaling that is not finite, or 0")
    return mean, deviation


def check_labels(given: Mapping[str, Array], data: Dataset) -> None:
    """Raise DataError where the parameters know other classes than the data have. Earlier versions did not say."""
    labels = given.get("classes")
    if labels is not None and not np.array_equal(labels, data.labels):
        what, labels_here = (
            np.array2string(np.asarray(some), threshold=8, edgeitems=3) for some in (labels, data.labels)
        )
        here = f"the labels are {labels_here}" if data.n_classes else "the target is numbers, not classes"
        raise DataError(
            f"{data.name}: {here}, but the parameters to start from were trained on {what}; give data "
            "with rows of the same labels"
        )


@contextlib.contextmanager
def _alone(rank_status: RankStatus, phase: str) -> Iterator[None]:
    """Name what this rank does by itself; after that it waits for the others."""
    rank_status.enter(phase)
    try:
        yield
    finally:
        rank_status.enter(WAITING)


def new_model(config: RunConfig, data: Dataset) -> Model | Mlp:
    """Return a new object of the configured model for the data. Raises ConfigError and DataError."""
    facts = data.x.shape[1], data.n_classes, data.n_targets
    labels = data.task == LABELS
    if not is_own_model(config.model):
        return models.build(config, *facts, labels=labels)
    return custom_model.load(config.model, *facts, labels=labels, weighted=data.weight is not None)


def make_model(comm: MPI.Comm, config: RunConfig, data: Dataset) -> Model | Mlp:
    """Make the configured model for the data, on every rank. Raises JobError."""
    own = is_own_model(config.model)
    if own:  # before any of it runs: what was asked at rank 0 is about rank 0's file
        file = together(comm, lambda: custom_model.file_of(config.model))
        content = file.sha256.encode() if file else b""
        same_everywhere(comm, content, f"model {config.model}, its file", "give every node the same one")
    model = together(comm, lambda: new_model(config, data))
    if own:
        shapes = msgpack.packb(list(model.shapes().items()))
        same_everywhere(comm, shapes, f"model {config.model}, its shapes", "give every node the same file")
    return model


def scale_target(
    comm: MPI.Comm,
    config: RunConfig,
    data: Dataset,
    model: Model | Mlp,
    rank_status: RankStatus,
    given: Mapping[str, Array] | None = None,
) -> Model | Mlp:
    """Bring a regression's target to the final dtype, standardised where its scale does not matter; return the model.

    A loss of the user's own may need the numbers as they are, and so do starting parameters that come with the data.
    ``given``: see ``load``; what it does not scale is left as it is. Raises JobError.
    """
    if data.n_classes:
        return model
    if data.task == LABELS:
        together(comm, lambda: data.keep_target(config.dtype))
        return model

    def scaling() -> list[list[float]]:
        with _alone(rank_status, "preparing data"):
            return [v.tolist() for v in (given_target_scaling(given, data) if given else data.target_scaling())]

    def scale() -> None:
        with _alone(rank_status, "preparing data"):
            data.scale_target(mean, deviation, config.dtype, option)
        if config.standardize_target and not (ours or given):
            data.notes += (
                f"The target is not standardised: {config.model} has a loss of its own, which may need the numbers as "
                "they are.",
            )

    option = "" if config.standardize_target else "--no-standardize-target"
    mean, deviation = np.zeros(data.n_targets), np.ones(data.n_targets)
    ours = type(model.loss) is MeanSquaredError
    scales = config.standardize_target and ours and data.initial is None
    if at_root(comm, lambda: scales or bool(given)):
        mean, deviation = (np.array(v) for v in at_root(comm, scaling))
    together(comm, scale)
    if isinstance(model, Mlp):
        return Mlp(model.sizes, model.activation_name, MeanSquaredError(loss_weights(deviation)))
    return model
