"""From a data source to the rows of a step: readers, checks and splits, the sampler and the batch loader.

Nothing here knows a model, an optimizer or MPI: rank and number of ranks are arguments.
"""
