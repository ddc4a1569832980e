"""Work inside a batch job of Slurm: how ranks are started, whose folder is used, and what its signals mean.

It runs on the first node of the allocation, outside of MPI, and becomes no rank.
"""
