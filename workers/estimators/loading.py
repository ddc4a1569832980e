"""Makes an estimator of a run that has ended, whoever trained it."""

from pathlib import Path

import numpy as np

from common.data.target import LABELS, REGRESSION
from common.errors import RankwiseError
from common.run_files import LOG_NAME, MODEL_NAME, log_path
from ps.coordinator.earlier_run import known_config
from workers.estimators.base import Estimator
from workers.estimators.classifier import Classifier
from workers.estimators.learned import Learned
from workers.estimators.parameters import options_of_run
from workers.estimators.regressor import Regressor

BOOLEANS = ("False", "True")


def load(run: str | Path) -> Estimator:
    """Return a fitted Classifier or Regressor of a run: its folder, or that folder's name under runs/.

    It has the options that the run was trained with as its parameters. Raises ValueError if there is no such run, or
    none with a model.
    """
    try:
        folder = log_path(Path(run)).parent
        if not (folder / MODEL_NAME).is_file():
            raise RankwiseError(f"{folder}: holds {LOG_NAME}, but no {MODEL_NAME}: it has not ended well")
        learned = Learned.read(folder)
        model = learned.model
    except (RankwiseError, OSError) as error:
        raise ValueError(f"load: {error}") from error
    config = known_config(learned.header["config"], learned.header)
    kind: type[Estimator] = Regressor if model.facts.task == REGRESSION else Classifier
    made: Estimator = kind(**(options_of_run(config) if config else {}))
    made.restore(learned, str(folder.absolute()))
    if isinstance(made, Classifier):
        labels = np.arange(model.n_targets) if model.facts.task == LABELS else model.labels
        made.classes_ = np.array([False, True]) if tuple(labels.tolist()) == BOOLEANS else labels
    return made
