"""What a resumed job makes of the options that were changed: where it is in its epoch, and which rates hold."""

from dataclasses import replace
from typing import Any

from common.config import RunConfig
from common.data.sampler import Joint, RowSampler
from common.nn.schedules import learning_rate
from common.option import from_dict
from workers.checkpoint.origin import Origin

OF_RATES = ("schedule", "warmup_epochs", "step_epochs", "step_factor")
"""Options that change rates in a way that their values do not show."""


def options_then(origin: Origin) -> RunConfig | None:
    """Return the options that the checkpoint was made with; None without a checkpoint, or if they are not known."""
    return from_dict(RunConfig, {**origin.then, "resume": ""}) if origin.then else None


def steps_then(config: RunConfig, origin: Origin, n_train: int) -> int:
    """Return how many steps an epoch had when the checkpoint was made."""
    return _sampler(options_then(origin) or config, n_train).steps_per_epoch


def find_joint(config: RunConfig, origin: Origin) -> Joint | None:
    """Return the epoch that was begun with another batch size and is not done; None if there is none."""
    then, done = options_then(origin), origin.steps
    if then is None or not done or then.batch_size == config.batch_size:
        return None
    return Joint(origin.state.epoch, done, then.batch_size)


def count_anew(origin: Origin, sampler: RowSampler) -> None:
    """Count the steps of the job's state in those of the present batch size."""
    state = origin.state
    if sampler.joint is not None:
        state.before = replace(state.before, steps=sampler.joint_step)
    if origin.mode:
        state.offset = origin.step - ((state.epoch - 1) * sampler.steps_per_epoch + state.before.steps)


def rates(config: RunConfig, origin: Origin, n_train: int) -> tuple[int, float, float] | None:
    """Return the epoch of the last step done, and its rate by the options then and now; None without a step."""
    then, state = options_then(origin), origin.state
    if then is None:
        return None
    counts = [_sampler(one, n_train).steps_per_epoch for one in (then, config)]
    done = state.epoch - 1 + origin.steps / counts[0]
    if not done:
        return None
    old, new = (
        learning_rate(one, max(0, round(done * n) - 1), n) for one, n in zip((then, config), counts, strict=True)
    )
    return state.epoch - (not origin.steps), old, new


def rate_note(config: RunConfig, origin: Origin, found: tuple[int, float, float] | None) -> tuple[str, bool]:
    """Return what to say of the rates that changed options bring, and whether that is a warning; or nothing.

    ``found``: see ``rates``.
    """
    then = options_then(origin)
    if then is None or found is None:
        return "", False
    epoch, old, new = found
    if config.schedule == then.schedule and config.schedule.endswith("cosine") and config.epochs != then.epochs:
        return (
            f"The {config.schedule} schedule ends at epoch {config.epochs} instead of {then.epochs}: the rate at epoch "
            f"{epoch} was {old:.3g}, it is now {new:.3g}"
        ), True
    moved = any(getattr(config, name) != getattr(then, name) for name in OF_RATES)
    if old != new and (moved or config.schedule != "constant"):
        return f"The learning rate at epoch {epoch} was {old:.3g}, it is now {new:.3g}.", False
    return "", False


def log_facts(config: RunConfig, origin: Origin, found: tuple[int, float, float] | None) -> dict[str, Any]:
    """Return what the log says of the options from here on. ``found``: see ``rates``."""
    of_rates = {} if found is None else {"rate_before": found[1], "rate_now": found[2]}
    return {"epochs": config.epochs, "config": config.as_dict(), "changes": origin.changes, **of_rates}


def _sampler(config: RunConfig, n_train: int) -> RowSampler:
    return RowSampler.of(config, n_train, 1)
