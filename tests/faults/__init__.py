"""A campaign of faults: jobs are struck at random, and each must end right and lose nothing."""
