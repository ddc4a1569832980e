"""Training as a job of Slurm: the batch scripts, and the command that submits them.

It asks Slurm by its commands, on a login node, and trains nothing: neither MPI nor NumPy is loaded.
"""

import os
import sys

if sys.argv[:1] == ["-m"] and any(word.removeprefix("-m").startswith("slurm.") for word in sys.orig_argv):
    # from the first line on Ctrl-C is no error
    sys.excepthook = lambda kind, *rest: None if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)
    _ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _path = sys.path
    # ours, whatever lies in the current folder: it is first in the path unless that is safe
    sys.path = [_ROOT, *_path[not sys.flags.safe_path :]]
    from common import shadowed

    shadowed.begin_command(_path, _ROOT, ("common", "ps", "workers"), shadowed.NEEDED)
