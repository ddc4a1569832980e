"""What people write who mean one of our options: names of other programs, and the spelling with the other dash."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable

SYNONYMS: dict[str, tuple[str, ...]] = {
    "all": ("every",),
    "arch": ("model",),
    "architecture": ("model",),
    "backend": ("mode",),
    "batch": ("batch_size",),
    "batchsize": ("batch_size", "batch"),
    "batch_size": ("batch",),
    "bs": ("batch_size", "batch"),
    "checkpoint": ("checkpoint_every",),
    "checkpoint_interval": ("checkpoint_every",),
    "clip_norm": ("clip",),
    "column": ("target",),
    "continue": ("resume",),
    "cores": ("ranks",),
    "criterion": ("loss",),
    "dataset": ("data",),
    "decay": ("weight_decay",),
    "dest": ("output",),
    "dir": ("output",),
    "directory": ("output",),
    "early_stopping": ("patience",),
    "epoch": ("epochs",),
    "epochs": ("epoch",),
    "eta": ("learning_rate",),
    "fault": ("inject",),
    "faults": ("inject",),
    "features": ("data",),
    "file": ("data", "output", "json"),
    "folder": ("output",),
    "gamma": ("step_factor",),
    "grad_clip": ("clip",),
    "gradient_clipping": ("clip",),
    "hidden": ("layers",),
    "hidden_layer_sizes": ("hidden", "layers"),
    "hidden_layers": ("hidden", "layers"),
    "hidden_size": ("hidden", "layers"),
    "hidden_sizes": ("hidden", "layers"),
    "host": ("hosts",),
    "input": ("data",),
    "iterations": ("epochs", "rounds"),
    "json": ("jsonl", "output"),
    "l2": ("weight_decay",),
    "label": ("target",),
    "labels": ("target",),
    "launcher": ("mpirun",),
    "layer": ("hidden", "layers"),
    "layer_sizes": ("hidden", "layers"),
    "layers": ("hidden",),
    "load": ("resume",),
    "log_dir": ("output",),
    "logdir": ("output", "tensorboard"),
    "lr": ("learning_rate",),
    "lr_scheduler": ("schedule",),
    "machinefile": ("hostfile",),
    "max_epochs": ("epochs",),
    "max_grad_norm": ("clip",),
    "max_norm": ("clip",),
    "md": ("markdown",),
    "mode": ("modes",),
    "modes": ("mode",),
    "mpiexec": ("mpirun",),
    "n": ("ranks",),
    "n_epochs": ("epochs",),
    "n_procs": ("ranks",),
    "n_ranks": ("ranks",),
    "net": ("model",),
    "network": ("model",),
    "nodes": ("hosts",),
    "normalise": ("standardize",),
    "normalize": ("standardize",),
    "np": ("ranks",),
    "nproc": ("ranks",),
    "nprocs": ("ranks",),
    "nranks": ("ranks",),
    "ntasks": ("ranks",),
    "num_epochs": ("epochs",),
    "num_procs": ("ranks",),
    "num_ranks": ("ranks",),
    "o": ("output", "json"),
    "opt": ("optimizer",),
    "optim": ("optimizer",),
    "optimiser": ("optimizer",),
    "out": ("output", "json"),
    "out_dir": ("output",),
    "outfile": ("output", "json"),
    "output": ("json",),
    "output_dir": ("output",),
    "precision": ("dtype",),
    "procs": ("ranks",),
    "processes": ("ranks",),
    "random_seed": ("seed",),
    "random_state": ("seed",),
    "rate": ("learning_rate",),
    "repeats": ("rounds", "trials"),
    "restart": ("resume",),
    "restore": ("resume",),
    "retries": ("restarts",),
    "save": ("output", "json"),
    "save_dir": ("output",),
    "save_every": ("checkpoint_every",),
    "scale": ("standardize",),
    "scheduler": ("schedule",),
    "size": ("ranks",),
    "standardise": ("standardize",),
    "stepsize": ("learning_rate",),
    "strategy": ("mode", "modes"),
    "sync": ("mode", "modes"),
    "tb": ("tensorboard",),
    "test_size": ("test_fraction",),
    "test_split": ("test_fraction",),
    "timeout": ("abort_stall",),
    "units": ("hidden", "layers"),
    "v": ("verbose",),
    "val_split": ("validation_fraction",),
    "validation_split": ("validation_fraction",),
    "warmup": ("warmup_epochs",),
    "wd": ("weight_decay",),
    "width": ("hidden", "layers"),
    "workers": ("ranks",),
    "world_size": ("ranks",),
    "x": ("data",),
    "y": ("target",),
}
"""Of a name in lower case with ``_``: our options, of which the first that the command has is meant."""
RANKS = "the launcher says how many ranks there are: mpirun -np 4 python -m ..., or rankwise train -n 4"
ABSENT = {
    **dict.fromkeys(("gpu", "gpus", "cuda", "device", "devices", "n_gpus"), "rankwise trains on CPUs; leave it out"),
    **dict.fromkeys([name for name, ours in SYNONYMS.items() if ours == ("ranks",)], RANKS),
    "dropout": "there is no dropout; for less overfitting give --weight-decay or --patience",
    "amp": "there is no mixed precision; --dtype is float32 or float64",
    "num_workers": "each rank reads its own rows; leave it out",
}
"""Of a name that no option of the command stands for: what to say instead."""


def plain(name: str) -> str:
    """Return a name as our options have it: ``--Batch-Size=3`` and ``batch_size`` are one."""
    name = re.sub(r"^-(np?)\d+$", r"\1", name.partition("=")[0])  # -np4
    return name.strip("-").lower().replace("-", "_")


def meant(name: str, known: Collection[str]) -> list[str]:
    """Return the options that are probably meant by a name that is none of them: the first is the likeliest."""
    name = plain(name)
    if name in known:
        return [name]
    if name.startswith("no_"):
        return meant(name.removeprefix("no_"), known)
    if same := next((ours for ours in SYNONYMS.get(name, ()) if ours in known), ""):
        return [same]
    if name in ABSENT:
        return []
    begin = [ours for ours in known if len(name) > 2 and ours.startswith(name)]
    return begin[:2] if begin else difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)


def advice(name: str, known: Iterable[str], show: Callable[[str], str]) -> str:
    """Return what to do about a name that is no option, a sentence; nothing if nothing is near.

    ``known``: the options with ``_``. ``show``: how one is written there: as a flag, in a file, in the environment.
    """
    near = meant(name, list(known))
    if near:
        return f"Did you mean {' or '.join(map(show, near))}?"
    text = ABSENT.get(plain(name), "")
    return f"{text[0].upper()}{text[1:]}." if text else ""


def flag(name: str) -> str:
    """Return an option's flag."""
    return f"--{name.replace('_', '-')}"
