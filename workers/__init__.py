"""The training process, which every rank runs.

Importing it limits BLAS to one thread before NumPy loads: libraries read these variables once, and ranks that
each start a thread per core slow each other down many times over. The exact number is set after MPI has started.
"""

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
THREADS_SET_BY_USER = next((v for v in THREAD_VARIABLES if os.environ.get(v)), "")
if not THREADS_SET_BY_USER:
    os.environ["OMP_NUM_THREADS"] = "1"
