"""Comparison with what a user would take instead; run by ``python -m tests.benchmarks``, never by pytest."""
