"""Starts a job again when it has died: attempts, hosts, and the decision how to continue.

It runs outside of MPI and knows a job only by its processes and its run folder.
"""
