"""What the training process and the coordinator share: no MPI in here, so every part imports and tests alone."""
