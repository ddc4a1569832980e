"""Starts a training job, and starts it again from its last checkpoint when it dies; never imports MPI itself."""
