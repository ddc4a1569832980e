"""What ranks measure in a step and hand in at the end of an epoch, and the figures made of it.

Judging these figures is the task of ``ps/findings``, writing them that of ``ps/coordinator``.
"""
