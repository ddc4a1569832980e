"""The commands of ``rankwise``: their names, what each is for, and which of them ranks run."""

from collections.abc import Sequence

from common.option import nearest

COMMANDS = {
    "train": "Train a model: rankwise train -n 4 --data own.csv --target price",
    "prepare": "Make a folder of arrays from tables: rankwise prepare train.csv -o prepared --target price",
    "predict": "Predict the rows of a file: rankwise predict RUN new.csv -o out.csv",
    "evaluate": "Say what predictions are worth: rankwise evaluate RUN test.csv",
    "export": "Write a trained model for ONNX, scikit-learn or PyTorch: rankwise export latest --onnx",
    "log": "Read the log of a run: rankwise log show, or watch, list, report, plot, ...",
    "compare": "Compare sync modes on your configuration and data, in turn in one job.",
    "bench": "Measure a model and sync modes on this machine or cluster.",
    "supervise": "Train, and start the job again from its last checkpoint when it dies.",
    "submit": "Train as a job of Slurm: rankwise submit --nodes 2 --time 02:00:00 -- --mode shared",
    "doctor": "Look at MPI, hosts, cores, memory, files and network, and say what to do.",
    "examples": "Copy the example files to a folder: rankwise examples DIR",
    "completion": 'Make bash, zsh or fish complete this command: eval "$(rankwise completion bash)"',
}
MODULES = {
    "train": "workers.run", "compare": "workers.compare", "bench": "workers.bench",
    "prepare": "workers.prepare", "predict": "workers.predict", "evaluate": "workers.evaluate",
}  # fmt: skip
"""What ranks run."""
ALONE = ("predict", "evaluate")
"""What one rank does unless more are asked for."""
OTHER_NAMES = {
    "run": "train",
    "fit": "train",
    "benchmark": "bench",
    "logs": "log",
    "check": "doctor",
    "sbatch": "submit",
}


def unknown(name: str, of_log: Sequence[str]) -> str:
    """Return what to say about a command that there is not. ``of_log``: what ``rankwise log`` does."""
    if name.startswith("-"):
        return f"got {name[:80]}; a command comes first, as in rankwise train {name[:80]}"
    if name in OTHER_NAMES:
        hint = f" (did you mean {OTHER_NAMES[name]!r}?)"
    else:
        hint = f" (did you mean 'log {name}'?)" if name in of_log else nearest(name, COMMANDS)
    return f"unknown command {name[:80]!r}{hint}; choose one of {', '.join(COMMANDS)}"
