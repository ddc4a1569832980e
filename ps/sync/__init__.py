"""How gradients are summed and parameters updated: every sync mode, with the protocol that all of them follow.

A mode is one file and one line in ``modes.py``; nothing here writes the log or prints.
"""
