"""A run in other formats: CSV, JSON lines, Markdown and TensorBoard, a file each.

Only formats: what a run holds comes from the views one level up.
"""
