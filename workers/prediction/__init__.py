"""Using a trained model: predictions of the rows of a file, and what they are worth where the truth is known.

Files are read and written a piece at a time. How a table's columns become features stands in ``common/data``.
"""
