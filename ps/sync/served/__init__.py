"""The parameter server: rank 0 serves parameters, workers push gradients.

The rules by which pushes change parameters are pure; nothing here writes the log or prints.
"""
