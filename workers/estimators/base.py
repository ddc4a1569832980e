"""What classifier and regressor have in common: parameters, fitting here or under mpirun, what they have afterwards."""

import multiprocessing
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_X_y, validate_data

from common.errors import LaunchError
from common.flat import Array
from common.wording import count
from workers.estimators import fitting, frames
from workers.estimators.arrays import Arrays
from workers.estimators.frames import Encoding
from workers.estimators.learned import Learned
from workers.estimators.parameters import PARAMETERS, check_own, config_of, constructor
from workers.launch.mpi import ranks_around

ATTRIBUTES = {
    "n_features_in_": "columns of X",
    "feature_names_in_": "their names, where X has names",
    "n_iter_": "epochs that were trained",
    "loss_curve_": "the training loss of each epoch",
    "loss_": "the last of them",
    "validation_loss_curve_": "the validation loss of each epoch, None where no rows are kept for it",
    "n_ranks_": "ranks that trained",
    "log_": "the path of the run folder, with its log and model.npz",
}
METHODS = """X: (rows, features), an array or a frame. sample_weight: (rows,), what each row counts. comm: ranks of
mpi4py that train, in place of all that mpirun started. All of them call this method, and the data of the first one are
trained on, whatever the others give. Raises ValueError for bad input, RuntimeError if training failed."""


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A model that is trained by the ranks of a job."""

    __init__ = constructor(PARAMETERS)
    _loss = ""
    """What ``--loss`` is."""
    _learned: Learned

    def _check(self, X: Any, y: Any, weight: Any, *, first: bool, **more: Any) -> Arrays:
        """Return what is trained on, checked. ``first``: whether the model is new. Raises ValueError and TypeError."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """Return what is known of the data, as plain values: for ranks that were given none."""
        names = getattr(self, "feature_names_in_", None)
        return {"features": self.n_features_in_, "names": None if names is None else names.tolist()}

    def _names(self, encoding: Encoding | None) -> list[str]:
        """Return the names of the features, if they have names."""
        if encoding is not None:
            return encoding.preprocessing.features()
        return list(map(str, getattr(self, "feature_names_in_", ())))

    def _take(self, facts: dict[str, Any]) -> None:
        """Take up facts of the data that another rank was given."""
        self._take_columns(facts)

    def _take_columns(self, facts: dict[str, Any]) -> None:
        self.n_features_in_ = facts["features"]
        if facts["names"] is not None:
            self.feature_names_in_ = np.array(facts["names"], object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _fit(self, X: Any, y: Any, weight: Any, comm: Any, *, partial: bool = False, **more: Any) -> Self:
        """Train. ``partial``: one epoch, from what was learned so far."""
        if not partial and hasattr(self, "_learned"):
            del self._learned  # what is found out of new data must not go with an old model
        start: Learned | None = getattr(self, "_learned", None)
        parameters = self.get_params(deep=False)
        ranks, runs = check_own(parameters)
        if partial:
            parameters = {**parameters, "epochs": 1, "patience": 0, "test_fraction": 0.0, "checkpoint_every": 1}
        verbose = parameters["verbose"]
        comm = _ranks_around() if comm is None else comm
        n_ranks = ranks if comm is None else comm.size

        def prepare() -> fitting.Fit:
            arrays = self._check(X, y, weight, first=start is None, **more)
            if n_ranks > len(arrays.x):
                raise ValueError(f"ranks: {n_ranks} ranks for {count(len(arrays.x), 'row')}; start fewer")
            dtype = np.dtype(start.model.facts.dtype) if start is not None else arrays.x.dtype
            config = config_of(parameters, dtype, loss=self._loss)
            return fitting.Fit(arrays, config, start, self._facts(), partial)

        if comm is None:
            learned, run = fitting.fit(prepare(), ranks, runs, verbose)
        else:
            from workers.estimators import on_communicator

            learned, run, facts = on_communicator.fit(comm, prepare, runs, verbose)
            self._take(facts)
        self._keep(learned, run, start)
        return self

    def restore(self, learned: Learned, run: str) -> None:
        """Become what a run has learned."""
        facts = learned.model.facts
        columns = [] if facts.preprocessing is None else [column.name for column in facts.preprocessing.columns]
        handed = [] if facts.transformer is None else [name for name, _ in facts.transformer.columns]
        names = handed or columns or list(facts.features)
        self._take_columns({"features": len(names) or learned.model.n_features, "names": names or None})
        self._keep(learned, run)

    def _keep(self, learned: Learned, run: str, start: Learned | None = None) -> None:
        if start is not None:
            learned.losses = [*start.losses, *learned.losses]
            learned.validation_losses = []
        self._learned = learned
        self.loss_curve_ = learned.losses
        self.loss_ = learned.losses[-1] if learned.losses else None
        self.validation_loss_curve_ = learned.validation_losses or None
        self.n_iter_ = len(learned.losses)
        self.n_ranks_ = learned.header["world"]
        self.log_ = run

    def _outputs(self, X: Any) -> Array:
        """Return raw outputs of the model, (n, n_out)."""
        check_is_fitted(self)
        model, facts = self._learned.model, self._learned.model.facts
        if self._learned.transformed is not None:
            return model.outputs(self._learned.transformed.features(X, facts.missing))
        if facts.preprocessing is not None:
            return model.outputs(frames.encode(X, facts.preprocessing, facts.missing))
        return model.outputs(validate_data(self, X, reset=False, dtype="numeric"))

    def _features(self, X: Any, y: Any, *, first: bool, **checks: Any) -> tuple[Array, Array, Encoding | None]:
        """Return checked features and target, and of a frame that holds more than numbers, what became of its columns.

        ``first``: see ``_check``. ``checks``: of scikit-learn's ``check_X_y``. Raises ValueError and TypeError.
        """
        checks |= {"multi_output": True, "ensure_min_samples": 2 if first else 1}
        facts = None if first else self._learned.model.facts
        if facts is not None and facts.transformer is not None:
            raise ValueError(
                f"partial_fit: the features of this model are made by {facts.transformer.name}, which a command takes: "
                f"python -m workers.run --from {self.log_}"
            )
        known = None if facts is None or facts.preprocessing is None else Encoding(facts.preprocessing)
        if known is None and not (first and frames.is_table(X)):
            x, y = validate_data(self, X, y, dtype="numeric", reset=first, **checks)
            return x, y, None
        encoding = known or frames.decide(X)
        x = frames.encode(X, encoding.preprocessing, facts.missing if facts else "")
        _, y = check_X_y(np.zeros((len(x), 1)), y, **checks)
        if first:
            names = list(map(str, X.columns))
            self._take_columns({"features": len(names), "names": names})
        return x, y, encoding

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learned")


def _ranks_around() -> Any:
    """Return the ranks that a launcher started, this process among them; None without one. Raises RuntimeError."""
    if multiprocessing.parent_process() is not None:  # as joblib's workers, which only have a rank's variables
        return None
    try:
        return ranks_around()
    except LaunchError as error:
        raise RuntimeError(str(error)) from error


def counted(x: Array, y: Array, weight: Any) -> tuple[Array, Array, Array | None]:
    """Return the rows that count something, and what they count, (n,) float64; None if all count the same.

    Raises ValueError.
    """
    if weight is None:
        return x, y, None
    checked: Array = _check_sample_weight(weight, x, dtype=np.float64, ensure_non_negative=True)
    if not checked.any():
        raise ValueError("sample_weight: all are 0; some rows must count")
    if (checked == checked[0]).all():
        return x, y, None
    counts = checked > 0
    return x[counts], y[counts], checked[counts]
