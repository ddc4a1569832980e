"""What is wrong with a run, in words with numbers and a remedy: every verdict, found in records or before training.

A verdict is one file and one line in ``detectors.py``; nothing here prints or writes the log.
"""
