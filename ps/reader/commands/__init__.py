"""The commands of ``python -m ps.log``: a file each, and the command line that calls them.

What several commands need belongs one level up.
"""
