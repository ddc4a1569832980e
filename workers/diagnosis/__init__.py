"""``rankwise doctor``: looks at what training needs, alone or on all ranks of a job, and says what mends what is off.

A check is a function that reads collected facts and yields findings, in a file by its topic, with a line in
``checks.py``; it does not call MPI, which ``measure.py`` and ``job.py`` alone do. Training imports nothing from here.
"""
