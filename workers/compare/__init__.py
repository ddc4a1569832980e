"""Sync modes side by side on a run's configuration: ``mpirun -np 4 python -m workers.compare --config run.toml``."""
