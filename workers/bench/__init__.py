"""A user's own benchmark: ``mpirun -np 4 python -m workers.bench --layers 784,128,10 --batch 128``."""
