"""One training job on one rank: set-up, the loop over steps, the end of an epoch, faults in a step.

Training without dead ranks is in ``workers/elastic``, measuring in ``workers/benchmark``.
"""
