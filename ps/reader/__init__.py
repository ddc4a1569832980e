"""Commands that read a log: ``python -m ps.log show | watch | export | compare``; no MPI, none of it on a rank."""
