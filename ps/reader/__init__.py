"""A run as its log shows it, for people who read it: views and summaries that commands, exports and reports use.

Never imported while training, and never in need of MPI.
"""
