"""TODO."""

from dataclasses import dataclass

from common.flat import Array

KEPT = "kept"


@dataclass(slots=True)
class TrainingState:
    """Parameters and what goes with them, whole: (n,) vectors laid out like the parameters, and whole numbers.

    ``vectors``: the optimizer's by name, and ``kept``, the parameters that ``Synchronizer.keep`` remembers, if any.
    """

    params: Array
    vectors: dict[str, Array]
    counts: dict[str, int]
