"""Makes an estimator of a run that has ended, whoever trained it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.target import LABELS, REGRESSION
from common.errors import RankwiseError
from common.run_files import log_path
from ps.coordinator.earlier_run import known_config
from workers.estimators.as_found import as_found
from workers.estimators.base import Estimator
from workers.estimators.classifier import Classifier
from workers.estimators.learned import Learned
from workers.estimators.parameters import options_of_run
from workers.estimators.regressor import Regressor
from workers.estimators.transformed import Transformed
from workers.prediction.run_model import find_model, load_model

BOOLEANS = ("False", "True")


def load(run: str | Path, *, trust_model: bool = False, trust_types: Sequence[str] = ()) -> Estimator:
    """Return a fitted Classifier or Regressor of a run: its folder, or that folder's name under runs/.

    It has the options that the run was trained with as its parameters. ``trust_model``: import a model class of your
    own though its file has changed. ``trust_types``: import types, or those of packages, that are in the transformer of
    a run with ``--prepare``. Raises ValueError if there is no such run, or none with a model.
    """
    trusted = [trust_types] if isinstance(trust_types, str) else list(trust_types)
    try:
        with as_found():  # a class of one's own may be in the current folder
            path = find_model(str(run))
            folder = log_path(path.parent).parent
            learned = Learned.read(folder, load_model(path, trust=trust_model))
            model, transformer = learned.model, learned.model.facts.transformer
            if transformer is not None:
                learned.transformed = Transformed.read(path.parent, transformer, trusted)
    except (RankwiseError, OSError) as error:
        text = str(error).replace("--trust-model", "trust_model=True")
        raise ValueError(re.sub(r"--trust-types (\S+)", _as_list, text)) from error
    config = known_config(learned.header["config"], learned.header)
    kind: type[Estimator] = Regressor if model.facts.task == REGRESSION else Classifier
    made: Estimator = kind(**(options_of_run(config) if config else {}))
    made.restore(learned, str(folder.resolve()))
    if isinstance(made, Classifier):
        labels = np.arange(model.n_targets) if model.facts.task == LABELS else model.labels
        made.classes_ = np.array([False, True]) if tuple(labels.tolist()) == BOOLEANS else labels
    return made


def _as_list(found: re.Match[str]) -> str:
    """Return types as Python takes them."""
    return f"trust_types={found[1].split(',')}"
