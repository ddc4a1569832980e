"""The model that a run has left: which file that is, and whether its class may be imported."""

from pathlib import Path

from common.config import RunConfig
from common.errors import DataError
from common.files import require_regular
from common.nn.model_facts import Facts
from common.nn.model_file import ModelFile
from common.option import is_own_model
from common.run_files import LOG_NAME, MODEL_NAME, RUNS, checkpoints_in
from workers.checkpoint.changes import changed_model


def find_model(run: str) -> Path:
    """Return the model's file of a run, given as folder, as name under runs/, or as that file. Raises DataError."""
    path = Path(run)
    if not path.exists() and path.name == run and (RUNS / path).is_dir():
        path = RUNS / path
    folder = path.parent if path.name == LOG_NAME else path
    if folder.is_dir():
        path = folder / MODEL_NAME
    try:
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(_nothing_there(run, folder)) from error
    except OSError as error:
        raise DataError(f"run: {path} cannot be read ({error.strerror})") from error
    return path


def _nothing_there(run: str, folder: Path) -> str:
    if not folder.is_dir():
        return f"run: no run and no file {run}; give a run folder (they are under {RUNS}/), latest, or a {MODEL_NAME}"
    if checkpoints_in(folder):
        return (
            f"run: {folder} has no {MODEL_NAME}: it has not ended; wait for it if it is running, or continue it with "
            f"--resume {folder}"
        )
    what = "has not ended, or ended before there was one" if (folder / LOG_NAME).exists() else "is no run folder"
    return f"run: {folder} has no {MODEL_NAME}: it {what}"


def load_model(path: Path, *, trust: bool) -> ModelFile:
    """Read a model. Raises RankwiseError. ``trust``: import a class of one's own though its file has changed."""

    def ask(facts: Facts) -> None:
        name = facts.model["name"]
        if is_own_model(name):
            changed_model(dict(facts.model), RunConfig(model=name, trust_model=trust), of="run", trained=False)

    return ModelFile.load(path, ask)
