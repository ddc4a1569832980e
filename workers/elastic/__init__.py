"""Training that continues without ranks that have died, on MPI libraries with fault tolerance (ULFM).

It rebinds the parts of a job to the survivors and imports nothing of the watchdog.
"""
