"""Numbers, records and tables as text, for rank 0 and for the log's readers.

Only formatting: nothing here measures, decides or imports a library for tables.
"""
