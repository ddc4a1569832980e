"""The coordinator's side of training: exchange between ranks, metrics, findings, the log and its readers.

The training process itself lives in ``workers``, which imports this package and is never imported by it.
"""
