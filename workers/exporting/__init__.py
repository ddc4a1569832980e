"""Writes a trained model for other programs: a file for each format, and a line in ``exporters.py``.

No ranks and no MPI. Libraries are those of the formats, each in an extra, and imported when a file of it is written.
"""
