"""Models, losses, optimizers and learning-rate schedules, with backpropagation written by hand.

Plain functions of arrays: no MPI, no files and no clock; what is shared between ranks is decided in ``ps/sync``.
"""
