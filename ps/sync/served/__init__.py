"""The parameter server: rank 0 serves parameters, workers push gradients."""
