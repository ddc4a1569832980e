"""TODO."""

from typing import Any

from common.config import ONLY_ON_COMMAND_LINE, RunConfig
from common.errors import ConfigError, RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import run_folder

SAVING = ("checkpoint_every", "checkpoint_minutes", "keep")


WATCHING = ("stall_seconds", "abort_stall")


MENDING = ("heal", "nonfinite", "nonfinite_most")


MAY_CHANGE = ("epochs", *SAVING, *WATCHING, *MENDING, "elastic", "output", "verbose", "debug", *ONLY_ON_COMMAND_LINE)
"""Options that need not be those of the run that is gone on with."""


OF_A_JOB = ("output", "elastic", *ONLY_ON_COMMAND_LINE)
"""Those that a job does not take over from the one before."""


def saved_config(resume: str, output: str) -> dict[str, Any]:
    """Return the options of the run to go on with, as its log's header has them, but for those of that job alone.

    Nothing if there is no such run. Raises RankwiseError.
    """
    folder = run_folder.find(resume, output)
    if folder is None:
        return {}
    values = run_folder.last_config(folder / LOG_NAME)
    known = set(RunConfig.__dataclass_fields__)
    if not isinstance(values, dict) or not values.keys() <= known or not isinstance(values.get("hidden"), list):
        raise RankwiseError(f"resume: the log of {folder} holds no configuration that this version knows")
    checked = RunConfig.from_dict({**values, "resume": ""}).as_dict()
    return {name: value for name, value in checked.items() if name not in OF_A_JOB}


def check_same(saved: dict[str, Any], config: RunConfig) -> None:
    """Raise ConfigError if an option differs that must not."""
    now = config.as_dict()
    changed = [name for name in saved if name not in MAY_CHANGE and saved[name] != now[name]]
    if changed:
        listed = "; ".join(f"{name}: {saved[name]!r} then, {now[name]!r} now" for name in changed)
        raise ConfigError(
            f"resume: other options than the run's ({listed}); leave them out, or start a new run; what may change is "
            f"{', '.join(MAY_CHANGE)}"
        )
