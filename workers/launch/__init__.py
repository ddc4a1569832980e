"""From the launcher to a process that is ready: MPI, options, signals, BLAS threads.

Nothing here knows a model or a step, so every command starts by the same path.
"""
