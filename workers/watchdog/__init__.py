"""A process on each node that sees ranks die or hang, says so, and ends what is left of the job.

It runs without MPI and imports only the standard library at the top, so that a dead rank cannot take it along.
"""
