"""What the training process and the coordinator share: configuration, errors, files, vectors, progress.

No MPI in here, so that every file imports and tests on its own.
"""
