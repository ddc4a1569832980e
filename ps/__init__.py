"""The coordinator's side: collecting gradients, the central log and its readers."""
