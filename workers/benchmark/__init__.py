"""Measurements on all ranks: steps, sums and scaling (bench), and modes against each other (compare).

They train by the same code as a run; nothing here is imported by training.
"""
