"""From files of tables to a prepared folder: arrays that training maps, and meta.json.

Polars is imported in child processes alone (``child.py``): no MPI there, and no polars where MPI is.
"""
