"""What benchmarks and comparisons of modes measure with."""
