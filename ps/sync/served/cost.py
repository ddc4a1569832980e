"""What a star through rank 0 costs: each push comes in there, and each reply goes out."""


def star_terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """All go through rank 0."""
    return 2 * (ranks - 1), 2 * (ranks - 1)


def star_network(nodes: int, elsewhere: int) -> tuple[float, float]:  # noqa: ARG001
    """All other nodes' packets come in through rank 0's interface, while replies go out."""
    return 2 * elsewhere, elsewhere
