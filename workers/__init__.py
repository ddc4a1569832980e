"""The training process, which every rank runs.

Importing it limits BLAS to one thread before NumPy loads: libraries read these variables once, and ranks that
each start a thread per core slow each other down many times over. The exact number is set after MPI has started.
"""

import os
import sys

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS_SET_BY_USER = next((v for v in THREAD_VARIABLES if os.environ.get(v)), "")
if not THREADS_SET_BY_USER:
    os.environ["OMP_NUM_THREADS"] = "1"
if sys.argv[:1] == ["-m"]:  # a command begins
    from importlib.util import module_from_spec, spec_from_file_location

    # by its place, for ``common`` may be somebody else's
    _ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _spec = spec_from_file_location("common.shadowed", os.path.join(_ROOT, "common", "shadowed.py"))
    assert _spec is not None
    assert _spec.loader is not None
    _shadowed = module_from_spec(_spec)
    _spec.loader.exec_module(_shadowed)
    _shadowed.refuse(_ROOT, ("common", "ps"), _shadowed.NEEDED)
    from common.module_file import leave_run_folders

    leave_run_folders()
