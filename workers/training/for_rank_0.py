"""What only rank 0 needs, or who takes its place: loaded before training, whatever happens to files meanwhile."""


def load_for_rank_0() -> None:
    """Load it. The other ranks do without: on a node of many, their memory and start-up time count."""
    from ps.coordinator import outputs  # noqa: F401
    from workers.checkpoint import resume, writer  # noqa: F401
    from workers.training import log_start  # noqa: F401
