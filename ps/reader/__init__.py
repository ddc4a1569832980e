"""Commands that read a log: ``python -m ps.log show | watch | report | ...``; no MPI, none of it on a rank."""
