"""Which options a job that resumes a run has changed, and whether the result is then another."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from common import module_file
from common.config import OPTIONS, RunConfig
from common.errors import ConfigError
from common.option import is_own_model
from ps.sync import mode_names
from ps.sync.mode_names import AUTO
from ps.sync.wires import EXACT

Effect = Literal["none", "rounding", "result"]
ROUNDING = ("mode", "ranks_per_node", "balance", "sum_algorithm")
"""Options that change the order of additions alone, in modes whose result is that of one rank."""


@dataclass(frozen=True, slots=True)
class Change:
    """An option that is another from here on; ``effect``: on the result, compared with one uninterrupted run."""

    name: str
    before: Any
    now: Any
    effect: Effect

    def __str__(self) -> str:
        return f"{self.name} {_shown(self.before)} -> {_shown(self.now)}"


def _is_exact(config: RunConfig) -> bool:
    """Say whether the result is that of one rank, but for rounding."""
    return config.mode in (AUTO, *mode_names.exact()) and config.wire == EXACT


def _momentum(before: RunConfig, now: RunConfig) -> bool:
    return bool({before.optimizer, now.optimizer} & {"momentum", "nesterov"})


def _warmup(before: RunConfig, now: RunConfig) -> bool:
    return before.schedule.startswith("warmup") or now.schedule.startswith("warmup")


def _steps(before: RunConfig, now: RunConfig) -> bool:
    return before.schedule.endswith("step") or now.schedule.endswith("step")


def _epochs(before: RunConfig, now: RunConfig) -> bool:
    return before.schedule.endswith("cosine") or now.schedule.endswith("cosine")


def _patience(before: RunConfig, now: RunConfig) -> bool:
    """With more of it, all would have been as it was; with less, training might have ended before."""
    return now.patience > 0 and not 0 < before.patience <= now.patience


CONDITIONS: dict[str, Callable[[RunConfig, RunConfig], bool]] = {
    "momentum": _momentum, "warmup_epochs": _warmup, "step_epochs": _steps, "step_factor": _steps, "epochs": _epochs,
    "patience": _patience,
}  # fmt: skip
"""Of options that may affect the result: whether they do. Those that are not here always do."""


def changed_options(before: RunConfig | None, now: RunConfig, *, trained: bool, anew: bool) -> list[Change]:
    """Return what has changed. ``before``: the options of what is continued; None if they are not known.

    ``trained``: whether there is something to continue: else this is one uninterrupted run with the new options.
    ``anew``: whether patience, which has ended the run, is counted again.
    """
    if before is None:
        return []
    found, exact = [], _is_exact(before) and _is_exact(now)
    for name, option in OPTIONS.items():
        old, new = getattr(before, name), getattr(now, name)
        if option.on_resume in ("same", "own") or old == new:
            continue
        effect: Effect = "none"
        if trained and option.on_resume == "affects":
            effect = "rounding" if name in ROUNDING and exact else "result"
            if name in CONDITIONS and not CONDITIONS[name](before, now) and not (anew and name == "epochs"):
                effect = "none"
        found.append(Change(name, old, new, effect))
    return found


def changed_model(then: Any, config: RunConfig, *, of: str, trained: bool) -> list[Change]:
    """Return whether a model class of one's own comes from another file now, if that was allowed. Rank 0 only.

    ``then``: what the log says of the model. ``of``: the option that names the run. Raises ConfigError if the file is
    another, or not known to the log, without ``--trust-model``: before anything of it has run.
    """
    if not is_own_model(config.model):
        return []
    found = module_file.find(config.model)
    if found is None:
        raise ConfigError(
            f"{of}: model {config.model}: no such module, neither installed nor in the folder {Path.cwd()}; start in "
            "the folder where the run was started"
        )
    then = then if isinstance(then, dict) else {}
    before = known if isinstance(known := then.get("sha256"), str) else ""
    if found.sha256 and before == found.sha256:
        return []
    if not config.trust_model:
        if before:
            place = then.get("file")
            there = "" if place == found.path else f" of {place}"
            what = (
                f"is not what the run was trained with (SHA-256 {before[:12]}...{there} then, {found.sha256[:12]}... "
                "now); put the file back as it was, or add"
            )
        else:
            what = (
                "may be another file than the run was trained with: its log does not hold the checksum; look, and add"
            )
        raise ConfigError(
            f"{of}: model {config.model}: {found.path or 'its code'} {what} --trust-model to go on with it"
        )
    return [
        Change("model file", before[:12] or "not known", found.sha256[:12], "result" if trained and before else "none")
    ]


def sentence(changes: Iterable[Change]) -> str:
    """Return what to print of changes; nothing if there are none."""
    changes = list(changes)
    effects = {change.effect for change in changes}
    ending = ""
    if "result" in effects:
        ending = " The result is no longer that of one uninterrupted run."
    elif "rounding" in effects:
        ending = " The result agrees with that of one uninterrupted run to rounding."
    return f"Changed on resume: {', '.join(map(str, changes))}.{ending}" if changes else ""


def plain(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Return changes as the log holds them."""
    return [{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(change).items()} for change in changes]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "none"
