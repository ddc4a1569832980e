"""What a job that resumes a run takes over from it: the options in the log's header, and which of them may change."""

import dataclasses
from typing import Any

from common.config import OPTIONS, RunConfig
from common.errors import ConfigError, RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import run_folder


def saved_config(resume: str, output: str) -> dict[str, Any]:
    """Return the options of the run to resume, without those that belong to its last job alone.

    Nothing if there is no such run. Raises RankwiseError.
    """
    folder = run_folder.find(resume, output)
    if folder is None:
        return {}
    values = run_folder.last_config(folder / LOG_NAME)
    if (
        not isinstance(values, dict)
        or not values.keys() <= OPTIONS.keys()
        or not isinstance(values.get("hidden"), list)
    ):
        raise RankwiseError(f"resume: the log of {folder} holds no configuration that this version knows")
    checked = dataclasses.asdict(RunConfig.from_dict({**values, "resume": ""}))
    return {name: value for name, value in checked.items() if OPTIONS[name].on_resume != "own"}


def check_same(saved: dict[str, Any], config: RunConfig) -> None:
    """Raise ConfigError if an option differs that must not."""
    changed = {name: value for name, value in saved.items() if OPTIONS[name].on_resume == "same"}
    changed = {name: value for name, value in changed.items() if value != getattr(config, name)}
    if changed:
        listed = "; ".join(f"{name}: {value!r} then, {getattr(config, name)!r} now" for name, value in changed.items())
        free = ", ".join(name for name, option in OPTIONS.items() if option.on_resume != "same")
        raise ConfigError(
            f"resume: other options than the run's ({listed}); leave them out, or start a new run; what may change is "
            f"{free}"
        )
