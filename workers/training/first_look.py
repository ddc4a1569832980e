"""Tries a model on a few rows at rank 0 before anything is trained."""

from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.flat import Flat
from common.nn.functional import MeanSquaredError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.option import is_own_model
from ps.comm.agreement import at_root
from ps.text.terminal import say
from workers.training.build import fill, make_sampler
from workers.training.task import new_model

if TYPE_CHECKING:
    from ps.coordinator.coordinator import Coordinator

ROWS = 7
"""A prime: where a result is off by the number of rows, it is by nothing else."""
UNEQUAL = 0.5, 2.5
"""Weights of the first and the last of them: their sum is not the number of rows."""


def check_model(comm: MPI.Comm, config: RunConfig, data: Dataset, model: Model | Mlp) -> dict[str, Any] | None:
    """Check the model if that is asked for, or if it is a class of the user's own; return the event for the log.

    Collective; raises JobError.
    """
    asked = is_own_model(config.model) if config.check_model is None else config.check_model
    return at_root(comm, lambda: _check(comm.size, config, data, model)) if asked else None


def note_check(coordinator: "Coordinator", checked: dict[str, Any]) -> None:
    """Bring the event to the log, and say so if the gradient could not be compared."""
    coordinator.event("model-check", **checked)
    if not checked["derivatives"]:
        say(
            f"The gradient of {coordinator.config.model} was not compared with numeric derivatives: the model is too "
            "large or too slow; try it with fewer parameters."
        )


def _check(n_ranks: int, config: RunConfig, data: Dataset, model: Model | Mlp) -> dict[str, Any]:
    """Return how many derivatives agreed and the seconds it took. Raises ConfigError."""
    from common.nn.model_check import ModelCheck  # on rank 0 only
    from common.nn.model_trial import TrialRows

    chosen = data.train[np.linspace(0, len(data.train) - 1, min(ROWS, len(data.train))).astype(np.int64)]

    def make() -> Model | Mlp:
        if isinstance(model, Mlp):
            by_scale = isinstance(model.loss, MeanSquaredError)  # sums in targets' units, which gradients are not in
            return Mlp(model.sizes, model.activation_name, MeanSquaredError() if by_scale else model.loss)
        return new_model(config, data)

    def start(model: Model | Mlp, flat: Flat) -> bool:
        return fill(config, data, model, flat, 0)

    sampler = make_sampler(config, data, n_ranks)
    none_too = any(not sampler.counts(rank).all() for rank in reversed(range(n_ranks)))
    weight = None if data.weight is None else np.linspace(*UNEQUAL, len(chosen))
    rows = TrialRows(data.x[chosen], data.y[chosen], weight)
    check = ModelCheck(config.model, make, start, rows, config.dtype)
    result = check.run(data.n_classes or data.n_targets, none_too=none_too)
    return {"derivatives": result.derivatives, "seconds": result.seconds}
