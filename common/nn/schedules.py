"""The learning rate as a function of the step."""

import math

from common.config import RunConfig


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of global step ``step`` (from 0).

    warmup-*: rises linearly, (step+1)/warm-up steps (Goyal et al. 2017, section 2.2), then the rest of the name.
    step: times step_factor every step_epochs epochs. cosine: half a cosine from the rate towards 0 at the last
    step (Loshchilov & Hutter 2017, eq. 5, one period), measured after the warm-up.
    """
    warmup, rate = 0, config.learning_rate
    if config.schedule.startswith("warmup"):
        warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.schedule.endswith("step"):
        return rate * config.step_factor ** (step // (config.step_epochs * steps_per_epoch))
    if config.schedule.endswith("cosine"):
        length = max(1, config.epochs * steps_per_epoch - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / length))
    return rate


def learning_rates(config: RunConfig, epoch: int, steps_per_epoch: int) -> list[float]:
    """Return the rates of all steps of an epoch (from 1)."""
    first = (epoch - 1) * steps_per_epoch
    if config.schedule == "constant":
        return [config.learning_rate] * steps_per_epoch
    return [learning_rate(config, first + k, steps_per_epoch) for k in range(steps_per_epoch)]
