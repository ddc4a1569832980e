"""The training process, which every rank runs.

Where a command begins, importing it limits BLAS to one thread before NumPy loads: libraries read these variables once,
and ranks that each start a thread per core slow each other down many times over. The exact number is set after MPI has
started. A program of the user's that imports it finds its environment as it was.
"""

import os
import sys

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS_SET_BY_USER = next((v for v in THREAD_VARIABLES if os.environ.get(v)), "")
_IS_MODULE = sys.argv[:1] == ["-m"] and any(
    word.removeprefix("-m").startswith(("workers.", "ps.")) for word in sys.orig_argv
)
if _IS_MODULE or os.path.basename(sys.argv[0]) == "rankwise":  # a command begins
    if not THREADS_SET_BY_USER:
        os.environ["OMP_NUM_THREADS"] = "1"
    # from the first line on Ctrl-C is no error
    sys.excepthook = lambda kind, *rest: None if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)
    _ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _path = sys.path
    # ours, whatever lies in the current folder: it is first in the path unless that is safe
    sys.path = [_ROOT, *_path[not sys.flags.safe_path :]]
    from common import shadowed, start_guard

    if _IS_MODULE:
        _exports = "workers.export" in (word.removeprefix("-m") for word in sys.orig_argv)
        _libraries = shadowed.NEEDED | shadowed.FOR_EXPORT if _exports else shadowed.NEEDED
        shadowed.begin_command(_path, _ROOT, ("common", "ps"), _libraries)
    else:
        start_guard.begin()
        sys.path = _path
