"""Estimators for scikit-learn: their parameters, what they take, and how a fit starts ranks and keeps what they learn.

In the caller's own process nothing trains but under ``mpirun``, and nothing is left changed there. Steps and modes are
in ``workers/training``; no rank imports scikit-learn.
"""
