"""The page of ``ps.log report``: its data, figures, tables, template and style.

Only what stands on the page: the command that writes it is in ``ps/reader/commands/report.py``.
"""
