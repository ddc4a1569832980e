"""The log as bytes and records: how it is written, read, followed and checked.

Nothing here knows MPI, training or how figures are made; texts for people are in ``ps/text``.
"""
