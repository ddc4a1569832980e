"""Fuzzing of all that is read from files and the environment: hypothesis in the suite, atheris by command."""
