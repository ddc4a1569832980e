"""Estimators in a program that mpirun started: ``estimates.py FOLDER``; rank 0 prints what came out, as JSON.

Then it runs the ``train.py`` of the folder.
"""

import json
import multiprocessing
import os
import runpy
import signal
import sys
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_iris

from workers.estimator import Classifier, Regressor

os.chdir(sys.argv[1])
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
variables, handlers = dict(os.environ), [signal.getsignal(number) for number in SIGNALS]
X, y = load_iris(return_X_y=True)
names = np.array(["setosa", "versicolor", "virginica"])[y]
first = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))) == 0
found: dict[str, Any] = {}


def fit_alone() -> None:
    """Fit in a process that a rank has started, as GridSearchCV does with n_jobs."""
    sys.exit(10 + Classifier(epochs=1).fit(X, names).n_ranks_)


if first:
    child = multiprocessing.get_context("fork").Process(target=fit_alone)
    child.start()
    child.join()
    found["in_child"] = child.exitcode
of_all = Classifier(epochs=3, ranks=7, dtype="float64").fit(X, names)
found["ranks"], found["log"] = of_all.n_ranks_, of_all.log_
of_first = Classifier(epochs=3, dtype="float64").fit(X if first else None, names if first else None)
found["same"] = bool(np.array_equal(of_all.predict_proba(X), of_first.predict_proba(X)))
found["probabilities"] = of_first.predict_proba(X).tolist()
found["labels"] = of_first.predict(X[:2]).tolist()
of_first.partial_fit(X[:50], names[:50])
found["epochs"] = of_first.n_iter_
found["shared"] = (
    Regressor(mode="shared", epochs=20).fit(*load_diabetes(return_X_y=True)).score(*load_diabetes(return_X_y=True))
)

found["errors"] = []
for wrong in ({"epochs": 0}, {"mode": "alreduce"}, {}):
    try:
        Classifier(**wrong).fit(X if wrong else X[:, :0], y)
    except ValueError as error:
        found["errors"].append(str(error))
try:
    Regressor(optimizer="sgd", learning_rate=1e20).fit(X, y)
except RuntimeError as error:
    found["errors"].append(str(error))

from mpi4py import MPI  # noqa: E402 - MPI is started by the first fit

alone = Classifier(epochs=3, dtype="float64").fit(X, names, comm=MPI.COMM_SELF)
found["alone"] = alone.n_ranks_
every = np.zeros(MPI.COMM_WORLD.size)
MPI.COMM_WORLD.Allgather(np.array([of_first.predict_proba(X).sum() + alone.predict_proba(X)[0, 0]]), every)
found["all_ranks_alike"] = bool((every == every[0]).all())
found["handlers"] = [signal.getsignal(number) for number in SIGNALS] == handlers
found["variables"] = {name: value for name, value in os.environ.items() if variables.get(name) != value}
if first:
    sys.stdout.write(f"RESULT {json.dumps(found)}\n")
    sys.stdout.flush()
runpy.run_path("train.py")
