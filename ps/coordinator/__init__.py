"""What only rank 0 does: the log's lines, early stop, the run folder and what is left in it.

Runs without MPI: what the other ranks know comes in as arguments.
"""
