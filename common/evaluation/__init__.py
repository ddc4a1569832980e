"""How well predictions are, as everybody tells it: the end of training, ``workers.evaluate``, and the log's readers.

Sums that ranks and pieces of a file add up, and figures made of them. No reading of files or models, and no MPI.
"""
