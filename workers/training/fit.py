"""What options, the number of ranks, data and the run to resume must agree on before training."""

from typing import Any

from common.config import OPTIONS, WIRES, RunConfig
from common.data.dataset import Dataset
from common.data.sampler import BY_RANK, SHARD, kind_of
from common.data.shards import SHARDS
from common.errors import EXIT_USAGE, JobError
from ps.sync import wires
from ps.sync.modes import AUTO, MODES
from ps.sync.sum_ways import has_effect
from workers.checkpoint.origin import Origin
from workers.training.environment import facts_of_data


def check_fit(config: RunConfig, origin: Origin, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where options, ranks and the run to resume do not fit together."""
    _check_init(config)
    _check_mode_options(config, origin)
    if config.optimizer == "sgd" and config.local_momentum != "auto" and _is_given(origin, "local_momentum"):
        raise JobError(
            f"local_momentum: {config.local_momentum} has no effect with optimizer sgd, which has none; leave it out",
            EXIT_USAGE,
        )
    _check_server(config, origin, n_ranks)
    _check_sum_algorithm(config, origin)
    check_wire(config, origin)
    if origin.mode and kind_of(config) == BY_RANK and origin.world != n_ranks:
        raise JobError(
            f"resume: {origin.folder} was begun by an earlier version with --rows shard, where each rank has rows of "
            f"its own, so that {n_ranks} ranks cannot continue for {origin.world}; start {origin.world} ranks, "
            f"or a new run from its parameters: --from {origin.folder}"
        )
    if config.balance != "off":
        _check_balance(config, origin, n_ranks)


def _check_init(config: RunConfig) -> None:
    if config.init == "per-rank" and config.mode != AUTO and not MODES[config.mode].apart:
        why = (
            "keeps parameters that are those of all ranks"
            if MODES[config.mode].replicas
            else "keeps one copy of the parameters a node"
        )
        raise JobError(
            f'init = "per-rank": mode {config.mode} {why}, so ranks cannot start '
            "apart; use --init broadcast or --mode allreduce",
            EXIT_USAGE,
        )


def _check_balance(config: RunConfig, origin: Origin, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where ranks cannot take other shares of the rows."""
    if config.mode != AUTO and MODES[config.mode].serves:
        raise JobError(
            f"balance: {config.balance} has no effect in mode {config.mode}, where ranks take rows as they come for "
            "more; leave it out, or choose --mode allreduce",
            EXIT_USAGE,
        )
    if kind_of(config) == BY_RANK:
        raise JobError(
            f"balance: {origin.folder} was begun by an earlier version with --rows shard, where each rank has rows of "
            "its own; leave --balance out",
            EXIT_USAGE,
        )
    if config.rows == SHARD and n_ranks > SHARDS:
        raise JobError(
            f"balance: with --rows shard a rank has one or more of {SHARDS} shards, which {n_ranks} ranks cannot have; "
            "use --rows shuffle",
            EXIT_USAGE,
        )


def _check_server(config: RunConfig, origin: Origin, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where an option does not go with parameters that are served, or their servers."""
    if config.servers == "all":
        _check_servers(config)
    if config.simulate_delay and n_ranks > 1:
        raise JobError(
            f"simulate_delay: {config.simulate_delay} is for one process, but there are {n_ranks} ranks, whose delays "
            "are real; leave it out, or start one rank",
            EXIT_USAGE,
        )
    if config.simulate_delay and config.order != OPTIONS["order"].default and _is_given(origin, "order"):
        raise JobError(
            f"order: {config.order} has no effect with --simulate-delay, whose delays are drawn; leave one of them out",
            EXIT_USAGE,
        )
    if config.wait_for > n_ranks and _is_given(origin, "wait_for"):
        raise JobError(
            f"wait_for: got {config.wait_for}, but only {n_ranks} ranks have gradients; allowed is at most as many, "
            "and 0 for all but one",
            EXIT_USAGE,
        )
    if config.heal and config.mode != AUTO and MODES[config.mode].serves and _is_given(origin, "heal"):
        raise JobError(
            f"heal: has no effect in mode {config.mode}, where each rank gets its parameters anew from those that "
            "serve them; leave it out",
            EXIT_USAGE,
        )


def _check_mode_options(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where an option is given that the mode does nothing with."""
    for name, one in OPTIONS.items():
        value = getattr(config, name)
        if one.modes and value != one.default and config.mode not in one.modes and _is_given(origin, name):
            raise JobError(
                f"{name}: {value} has no effect in mode {config.mode}; leave it out, or choose "
                f"--mode {' or '.join(one.modes)}",
                EXIT_USAGE,
            )


def _check_servers(config: RunConfig) -> None:
    """Raise JobError, on all ranks, where servers of slices would have to know more than their slice."""
    whole = "each server has a slice of a gradient alone"
    gone, single = "with a rank its slice of the optimizer's state is gone", "that is for one process"
    reasons = {"clip": whole, "max_delay": whole, "elastic": gone, "simulate_delay": single}
    for name, reason in reasons.items():
        if getattr(config, name) != OPTIONS[name].default:
            raise JobError(
                f"{name}: does not go with --servers all: {reason}; leave it out, or use --servers one", EXIT_USAGE
            )


def _check_sum_algorithm(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where a way to sum is given that the mode, or its wire, does not take."""
    if config.mode == AUTO or not _is_given(origin, "sum_algorithm"):
        return
    mode, way = MODES[config.mode], config.sum_algorithm
    of_wire = config.wire in mode.wires and config.wire != wires.EXACT
    if has_effect(way, () if of_wire else mode.algorithms):
        return
    at = f"mode {config.mode}{f' with --wire {config.wire}' if of_wire else ''}"
    modes = [name for name, one in MODES.items() if has_effect(way, one.algorithms) and name != config.mode]
    raise JobError(
        f"sum_algorithm: {way} has no effect in {at}; leave it out, or choose one of --mode {', '.join(modes)}",
        EXIT_USAGE,
    )


def _is_given(origin: Origin, option: str) -> bool:
    """Say whether an option is meant for this job, not for the run that it resumes."""
    return not origin.folder or has_changed(origin, option)


def check_wire(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where a wire or an option of one has no effect."""
    taken = () if config.mode == AUTO else MODES[config.mode].wires
    if config.wire not in (wires.EXACT, *taken):
        able = [name for name, mode in MODES.items() if config.wire in mode.wires]
        problem = f"is not one that mode {config.mode} takes" if taken else f"has no effect in mode {config.mode}"
        raise JobError(
            f"wire: {config.wire} {problem}; use --wire {' or '.join(taken or [wires.EXACT])}, or choose one of "
            f"--mode {', '.join(able)}",
            EXIT_USAGE,
        )
    if config.wire != wires.EXACT and config.simulate_delay:
        raise JobError(
            f"wire: {config.wire} has no effect with --simulate-delay, where nothing is sent; leave one of them out",
            EXIT_USAGE,
        )
    for name, one in OPTIONS.items():
        if name.startswith("wire_") and _is_given(origin, name) and getattr(config, name) != one.default:
            takes = [wire for wire in WIRES if name in wires.find(wire).options]
            if config.wire not in takes:
                raise JobError(
                    f"{name}: has no effect with --wire {config.wire}; leave it out, or choose --wire "
                    f"{' or '.join(takes)}",
                    EXIT_USAGE,
                )


def check_data(config: RunConfig, origin: Origin, data: Dataset) -> None:
    """Raise JobError, on all ranks, where the data are not those of the run to resume, wherever they lie."""
    if not origin.folder:
        return
    then, now = origin.data, facts_of_data(data)
    differ = [
        f"{name} {_plain(then[name])} in the run, {_plain(now[name])} now"
        for name in ("features", "targets", "rows")
        if name in then and then[name] != now[name]
    ]
    if then["sha256"] not in ("", data.sha256):
        differ.insert(0, f"SHA-256 {then['sha256'][:12]}... in the run, {data.sha256[:12]}... now")
    if differ:
        alike = all(then.get(name, now[name]) == now[name] for name in ("features", "targets"))
        raise JobError(
            f"resume: data {config.data} is not what the run was trained on ({'; '.join(differ)}); give the place "
            "of those data with --data, or start a new run" + f" from its parameters: --from {origin.folder}" * alike
        )


def _plain(fact: Any) -> str:
    """Return a number as it is, and numbers by name as ``train 210, validation 30``."""
    return ", ".join(f"{name} {n}" for name, n in fact.items()) if isinstance(fact, dict) else str(fact)


def has_changed(origin: Origin, option: str) -> bool:
    """Say whether an option is another than in the run that is resumed."""
    return any(change["name"] == option for change in origin.changes)
